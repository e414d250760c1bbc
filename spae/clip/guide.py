"""CLIP as the judge of words: prompt features (equation 5) and image features.

Any open_clip model will do: a name with weights, `local-dir:FOLDER` or `hf-hub:ORG/NAME`. It is frozen; no gradient
passes. This file knows neither codebooks nor losses: it says which words suit an image, by id.

open_clip is imported where it is used: with torchvision and torch's compiler it takes 8 s a process, which those that
only mention CLIP should not pay.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spae.clip.text_tower import ClipModel, encode_prompts
from spae.judges.resnet import weights_sha256
from spae.vocabulary.record import ClipIdentity, SemanticsRecord

Tokenizer = Callable[..., Tensor]

_PROMPTS_AT_ONCE = 16_384  # tokenized together and sorted by length: 10 MB of ids at 77 tokens
_GOLDEN_TEMPLATE = "a photo of a {}."
_GOLDEN_TOLERANCE = 1e-2
_IDENTITY = tuple(item.name for item in fields(ClipIdentity))
_PATHS = ("hf_model_name", "hf_tokenizer_name", "hf_model_pretrained")  # say where a model lay, not what it is


@dataclass(frozen=True, eq=False, kw_only=True)
class ClipGuide(ClipIdentity):
    """A frozen open_clip model in eval mode, its tokenizer and how pictures are prepared for it."""

    model: ClipModel
    tokenizer: Tokenizer
    name: str
    weights: str

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device


@functools.cache
def imagenet_templates() -> tuple[str, ...]:
    """The 80 prompts of OpenAI's zero-shot ImageNet set-up, {} where the word goes."""
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return tuple(render("{}") for render in OPENAI_IMAGENET_TEMPLATES)


def load_clip(name: str, weights: str | None = None, device: str | torch.device = "cpu") -> ClipGuide:
    """Load an open_clip model for guidance.

    Args:
        name: a model name of open_clip, `local-dir:FOLDER` (open_clip_config.json and open_clip_model.safetensors) or
            `hf-hub:ORG/NAME`.
        weights: a tag of open_clip or a file, needed with a plain name and with no other.
        device: where it shall run.

    Raises:
        ValueError: unknown name or weights, weights that do not fit, or weights trained with the other activation
            (facts 8.13): open_clip itself only warns, and every similarity would be wrong.
    """
    import open_clip

    schema, _ = open_clip.factory.parse_model_name(name)
    if (schema is None) != (weights is not None):
        need = "needs weights: a tag or a file" if schema is None else "brings its weights; give none"
        raise ValueError(f"CLIP {name!r} with weights={weights!r}: it {need}")
    try:
        config = _model_config(name)
        if weights is not None:
            _check_activation(name, weights, config)
        model = open_clip.create_model(
            name, pretrained=weights, device=device, require_pretrained=True, text_cfg=config["text_cfg"]
        )
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # each format of weights and each hub has errors of its own; all mean the same here
        raise ValueError(f"CLIP {name!r} with weights={weights!r} cannot be loaded: {error}") from error
    model.eval().requires_grad_(False)
    preparation = model.visual.preprocess_cfg
    sides = {preparation["size"]} if isinstance(preparation["size"], int) else set(preparation["size"])
    if len(sides) != 1:
        raise ValueError(f"CLIP {name!r} sees pictures of {preparation['size']}; only square ones are supported")
    return ClipGuide(
        model=model,
        tokenizer=tokenizer,
        name=name,
        weights=Path(weights).name if weights else "",
        architecture_sha256=_architecture_sha256(config),
        weights_sha256=weights_sha256(model),
        activation="quick_gelu" if config.get("quick_gelu") else "gelu",
        image_size=sides.pop(),
        mean=tuple(preparation["mean"]),
        std=tuple(preparation["std"]),
        interpolation=preparation["interpolation"],
    )


def prompt_features(
    clip: ClipModel,
    tokenizer: Tokenizer,
    words: Sequence[str],
    templates: Sequence[str] | None = None,
    batch_size: int = 256,
) -> Tensor:
    """Text features of words, float32 (K, E): mean over the templates of unit-norm prompt features (equation 5).

    Without `templates` ImageNet's 80. The mean is not brought back to unit length. Prompts run in batches of
    `batch_size`, causal towers on no padding and on what a template's prompts begin with once
    (`spae/clip/text_tower.py`).

    Raises:
        ValueError: a template without {}, or a prompt longer than the tower's context, named with its word.
    """
    templates = imagenet_templates() if templates is None else templates
    check_templates(templates)
    if not words:
        raise ValueError("no words to encode; give at least one")
    chunk = max(1, _PROMPTS_AT_ONCE // len(templates))
    means = []
    for start in range(0, len(words), chunk):
        prompts = [template.replace("{}", word) for word in words[start : start + chunk] for template in templates]
        template_of = torch.arange(len(prompts)) % len(templates)
        features = encode_prompts(clip, _tokenize(tokenizer, prompts), template_of, batch_size)
        means.append(features.unflatten(0, (-1, len(templates))).mean(dim=1))
    return torch.cat(means)


def check_templates(templates: Sequence[str]) -> None:
    """ValueError unless there are templates and each has one {} for the word."""
    wrong = [template for template in templates if template.count("{}") != 1]
    if wrong or not templates:
        raise ValueError(f"templates {wrong or '(none)'} must hold {{}} once, as in 'a photo of a {{}}.'")


@torch.no_grad()
def image_features(guide: ClipGuide, pixels: Tensor) -> Tensor:
    """Unit-norm image features float32 (B, E) of pixels (B, 3, H, W), float in [0, 1]; no gradient.

    The whole picture is brought to CLIP's square, as the tokenizer sees it (facts 8.13), with antialias and clamped as
    an 8-bit picture would be.
    """
    return _image_features(guide, pixels)


def word_logits(guide: ClipGuide, semantics: Tensor, pixels: Tensor) -> Tensor:
    """CLIP's logits (B, K) of words with text features (K, E) for pixels as in `image_features`; differentiable."""
    return guide.model.logit_scale.exp() * _image_features(guide, pixels) @ semantics.T


def semantics_record(guide: ClipGuide, template_set: str, templates: Sequence[str]) -> SemanticsRecord:
    """What a vocabulary says of the CLIP that judged its words."""
    return SemanticsRecord(
        clip=guide.name,
        clip_weights=guide.weights,
        **{name: getattr(guide, name) for name in _IDENTITY},
        golden_cosine=golden_cosine(guide),
        template_set=template_set,
        templates=tuple(templates),
        templates_sha256=hashlib.sha256("\n".join(templates).encode()).hexdigest(),
    )


def require_same_clip(guide: ClipGuide, record: SemanticsRecord) -> None:
    """ValueError unless this CLIP is the one whose text features the vocabulary holds and answers as it did then."""
    for name in _IDENTITY:
        if getattr(guide, name) != getattr(record, name):
            raise ValueError(
                f"CLIP {guide.name!r} has {name}={getattr(guide, name)!r}, but the vocabulary was made with "
                f"{record.clip!r}, {name}={getattr(record, name)!r}; give that CLIP or build the vocabulary anew"
            )
    cosine = golden_cosine(guide)
    if not abs(cosine - record.golden_cosine) <= _GOLDEN_TOLERANCE:
        raise ValueError(
            f"CLIP {guide.name!r} gives {cosine:.4f} for the fixed picture and sentence that gave "
            f"{record.golden_cosine:.4f} when the vocabulary was made, with the same weights: check the versions of "
            "torch, open_clip and transformers"
        )


def golden_cosine(guide: ClipGuide) -> float:
    """Cosine of a fixed picture (colour ramps) and a fixed sentence, to compare machines and versions."""
    ramp = torch.linspace(0, 1, guide.image_size)
    red, green = torch.meshgrid(ramp, ramp, indexing="ij")
    picture = image_features(guide, torch.stack([red, green, 1 - red])[None])
    sentence = prompt_features(guide.model, guide.tokenizer, ["dog"], [_GOLDEN_TEMPLATE])
    return float((picture.cpu() * sentence).sum())


def _model_config(name: str) -> dict[str, Any]:
    """open_clip's configuration of a model, its Hugging Face text tower found where it now lies."""
    import open_clip

    config = open_clip.get_model_config(name)
    if config is None:
        raise ValueError(f"open_clip knows no model {name!r}; see open_clip.list_models()")
    schema, folder = open_clip.factory.parse_model_name(name)
    text = config["text_cfg"]
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False  # all weights come from the CLIP's own file
        if schema == "local-dir" and (Path(folder) / "config.json").is_file():
            text["hf_model_name"] = folder  # the folder may have been moved since it was written
    return config


def _check_activation(name: str, weights: str, config: dict[str, Any]) -> None:
    """Refuse weights whose training is known to have used the other activation."""
    import open_clip

    known = open_clip.pretrained.get_pretrained_cfg(name, weights)
    if not known and Path(weights).is_file():
        known = _recognise(name, Path(weights))
    quick = bool(config.get("quick_gelu"))
    if known and bool(known.get("quick_gelu")) != quick:
        twin = name.removesuffix("-quickgelu") if quick else f"{name}-quickgelu"
        raise ValueError(f"these weights were trained with the other activation (quick_gelu={not quick}); use {twin}")


def _recognise(name: str, file: Path) -> dict[str, Any]:
    """What open_clip knows of a weights file: by the checksum in a download address, or OpenAI's by the path's name."""
    import open_clip

    tags = {
        tag: open_clip.pretrained.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)
    }
    if "openai" in str(file.resolve()).lower() and "openai" in tags:
        return tags["openai"]
    with file.open("rb") as stream:
        checksum = hashlib.file_digest(stream, "sha256").hexdigest()
    return next((known for known in tags.values() if checksum in known.get("url", "")), {})


def _architecture_sha256(config: dict[str, Any]) -> str:
    text = {key: value for key, value in config["text_cfg"].items() if key not in _PATHS}
    return hashlib.sha256(json.dumps({**config, "text_cfg": text}, sort_keys=True).encode()).hexdigest()


def _tokenize(tokenizer: Tokenizer, prompts: Sequence[str]) -> Tensor:
    """Ids int64 (n, context), whole prompts only: open_clip's tokenizers cut long ones in silence.

    A prompt that was cut has content in the last column but one; those are tokenized again with room for one more.
    """
    ids = tokenizer(list(prompts))
    context, padding = ids.shape[1], tokenizer([""])[0, -1]
    full = (ids[:, -2] != padding).nonzero()[:, 0].tolist()
    if full:
        longer = tokenizer([prompts[row] for row in full], context_length=context + 1)
        for row, other in zip(full, longer, strict=True):
            if not torch.equal(ids[row], other[:context]):
                raise ValueError(
                    f"prompt {prompts[row][:200]!r} has more than {context} tokens; drop its word or the template"
                )
    return ids


def _image_features(guide: ClipGuide, pixels: Tensor) -> Tensor:
    if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
        raise ValueError(f"pixels {tuple(pixels.shape)} {pixels.dtype} must be float (B, 3, H, W) in [0, 1]")
    side = guide.image_size
    resized = pixels.to(guide.device, torch.float32)
    if pixels.shape[-2:] != (side, side):
        resized = functional.interpolate(resized, (side, side), mode=guide.interpolation, antialias=True).clamp(0, 1)
    mean, std = (resized.new_tensor(values)[:, None, None] for values in (guide.mean, guide.std))
    return functional.normalize(guide.model.encode_image((resized - mean) / std).float(), dim=-1)
