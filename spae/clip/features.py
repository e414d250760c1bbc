"""CLIP's features of words through prompts (equation 5), and of pictures. No gradient reaches CLIP.

Knows neither codebooks nor losses: it says which words suit an image, by id.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from spae.clip.guide import ClipGuide, Tokenizer
from spae.clip.text_tower import ClipModel, encode_prompts

_FRAMES_AT_ONCE = 256  # of clips, whose frames are T times as many as a batch
_PROMPTS_AT_ONCE = 16_384  # tokenized together and sorted by length: 10 MB of ids at 77 tokens


@functools.cache
def imagenet_templates() -> tuple[str, ...]:
    """The 80 prompts of OpenAI's zero-shot ImageNet set-up, {} where the word goes."""
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return tuple(render("{}") for render in OPENAI_IMAGENET_TEMPLATES)


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
    an 8-bit picture would be. Of clips (B, 3, T, H, W) the mean over frames, not brought back to unit length, which
    the normalisation of equation 6 undoes.
    """
    if pixels.ndim != 5:
        return _image_features(guide, pixels)
    frames = pixels.movedim(2, 1).flatten(0, 1)
    features = torch.cat([_image_features(guide, part) for part in frames.split(_FRAMES_AT_ONCE)])
    return features.unflatten(0, (-1, pixels.shape[2])).mean(1)


def word_logits(guide: ClipGuide, semantics: Tensor, pixels: Tensor) -> Tensor:
    """CLIP's logits (B, K) of words with text features (K, E) for pixels as in `image_features`; differentiable."""
    return guide.model.logit_scale.exp() * _image_features(guide, pixels) @ semantics.T


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
