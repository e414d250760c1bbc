"""Whether a CLIP is the one that judged a vocabulary: what is recorded of it, and the check against a record."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields

import torch

from spae.clip.features import image_features, prompt_features
from spae.clip.guide import ClipGuide
from spae.vocabulary.record import ClipIdentity, SemanticsRecord

_GOLDEN_TEMPLATE = "a photo of a {}."
_GOLDEN_TOLERANCE = 1e-2
_IDENTITY = tuple(item.name for item in fields(ClipIdentity))


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
