"""CLIP as the guide of words: any frozen open_clip model, a name with weights, `local-dir:FOLDER` or `hf-hub:ORG/NAME`.

open_clip is imported where it is used: with torchvision and torch's compiler it takes 8 s a process, which those that
only mention CLIP should not pay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spae.clip.text_tower import ClipModel
from spae.judges.weights import weights_sha256
from spae.vocabulary.record import ClipIdentity

Tokenizer = Callable[..., Tensor]

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
    return ClipGuide(
        model=model.eval().requires_grad_(False),
        tokenizer=tokenizer,
        name=name,
        weights=Path(weights).name if weights else "",
        **_identity(name, model, config),
    )


def _identity(name: str, model: ClipModel, config: dict[str, Any]) -> dict[str, Any]:
    """The fields of ClipIdentity."""
    preparation = model.visual.preprocess_cfg
    return {
        "architecture_sha256": _architecture_sha256(config),
        "weights_sha256": weights_sha256(model),
        "activation": "quick_gelu" if config.get("quick_gelu") else "gelu",
        "image_size": _square_side(name, preparation["size"]),
        "mean": tuple(preparation["mean"]),
        "std": tuple(preparation["std"]),
        "interpolation": preparation["interpolation"],
    }


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


def _square_side(name: str, size: int | Sequence[int]) -> int:
    """The side of the pictures that a CLIP sees; ValueError where they are not square."""
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise ValueError(f"CLIP {name!r} sees pictures of {size}; only square ones are supported")
    return sides.pop()


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
