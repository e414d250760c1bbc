"""The frozen networks that judge a training: CLIP for the words, a classifier for resemblance."""

import functools
import logging
from dataclasses import dataclass

import torch

from spae.clip import image_features, load_clip, require_same_clip, word_logits
from spae.judges.catalogue import load_efficientnet
from spae.judges.efficientnet import SIDE
from spae.judges.resnet import load_perceptual
from spae.training.objective import Guidance, Network
from spae.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

EFFICIENTNET = "efficientnet-lite0"
"""Perceptual weights: this judge's logits of ImageNet's classes stand in for the ResNet-50's; with @96 behind it of
pictures at 96 pixels a side instead of 224."""
SMALLEST_SIDE = 32
CLIP_STAND_IN = "clip"
"""Perceptual weights: CLIP's logits of the vocabulary's words stand in for the ResNet-50's of ImageNet's classes."""


@dataclass(frozen=True)
class Judges:
    """None where the objective does not weigh what one would judge."""

    guidance: Guidance | None = None
    perceptual: Network | None = None


@dataclass(frozen=True)
class JudgeSource:
    """Where the judges come from; None for one that is not needed."""

    clip: str | None
    clip_weights: str | None
    perceptual_weights: str | None


def load_judges(source: JudgeSource, vocabulary: Vocabulary, guided: bool, device: torch.device) -> Judges:
    """Load what a source names. ValueError where CLIP is not the one that judged the vocabulary."""
    guidance: Guidance | None = None
    perceptual: Network | None = None
    stand_in = source.perceptual_weights == CLIP_STAND_IN
    record, semantics = vocabulary.record.semantics, vocabulary.semantics
    if source.clip is not None and record is not None and semantics is not None:
        guide, semantics = load_clip(source.clip, source.clip_weights, device), semantics.to(device)
        require_same_clip(guide, record)
        if guided:
            guidance = Guidance(functools.partial(image_features, guide), semantics)
        if stand_in:
            perceptual = functools.partial(word_logits, guide, semantics)
            logger.info("perceptual network: a stand-in, the logits of %s for the vocabulary's words", guide.name)
    named, _, side = (source.perceptual_weights or "").partition("@")
    if named == EFFICIENTNET:
        perceptual = functools.partial(load_efficientnet(device).logits, side=_side(side))
        logger.info("perceptual network: EfficientNet-Lite0, real weights of ImageNet, in place of the ResNet-50")
    elif source.perceptual_weights is not None and not stand_in:
        perceptual = network = load_perceptual(source.perceptual_weights, device)
        logger.info("perceptual network: ResNet-50, weights %s (sha256 %s)", source.perceptual_weights, network.sha256)
    return Judges(guidance, perceptual)


def _side(text: str) -> int:
    """Pixels a side behind the judge's name, its own by default."""
    if text and not (text.isdecimal() and int(text) >= SMALLEST_SIDE):
        raise ValueError(f"--perceptual-weights {EFFICIENTNET}@{text} must name at least {SMALLEST_SIDE} pixels a side")
    return int(text or SIDE)
