"""CLIP's text features of words: which CLIP, where it runs, and what becomes of a word that it cannot take.

Beam's workers and a single process encode by the same object. A word's features depend on the word and the prompts
alone: which words share its batch moves the last bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import transformers

from pipelines.features.parts import VectorParts, WordVectors
from spae.clip import (
    ClipGuide,
    check_templates,
    imagenet_templates,
    load_clip,
    prompt_features,
    require_same_clip,
)
from spae.data.publishing import read_bytes
from spae.vocabulary.record import SemanticsRecord

IMAGENET = "imagenet-80"

_PROMPTS_AT_ONCE = {"cpu": 256, "cuda": 4096}  # a GPU waits for launches, a CPU for memory
_NOT_FINITE = "CLIP gives a feature that is not finite"


def read_templates(name: str) -> tuple[str, ...]:
    """The 80 prompts of ImageNet, or the lines of a file."""
    if name == IMAGENET:
        return imagenet_templates()
    data = read_bytes(name)
    if data is None:
        raise ValueError(f"--templates {name} is neither {IMAGENET} nor a file")
    try:
        templates = tuple(line.strip() for line in data.decode().splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise ValueError(f"--templates {name} is not UTF-8: {error}") from error
    check_templates(templates)
    return templates


@dataclass(frozen=True, eq=False)
class WordEncoder:
    """A loaded CLIP and its prompts. What it returns holds no tensor, so that it may pass between processes."""

    guide: ClipGuide
    templates: tuple[str, ...]

    def encode(self, words: Sequence[str]) -> WordVectors:
        """Features of a batch; where it holds a word that CLIP cannot take, word by word: only that one is lost."""
        batch_size = _PROMPTS_AT_ONCE[self.guide.device.type]
        try:
            features = prompt_features(self.guide.model, self.guide.tokenizer, words, self.templates, batch_size)
        except ValueError as error:
            if len(words) == 1:
                return WordVectors((), np.empty((0, 0), np.float32), {words[0]: str(error)})
            return _join([self.encode([word]) for word in words])
        finite = torch.isfinite(features).all(dim=1).tolist()
        return WordVectors(
            tuple(word for word, good in zip(words, finite, strict=True) if good),
            features[finite].numpy(),
            {word: _NOT_FINITE for word, good in zip(words, finite, strict=True) if not good},
        )


@dataclass(frozen=True)
class ClipSource:
    """Where a process finds CLIP, and by what it knows that it found the right one."""

    name: str
    weights: str | None
    record: SemanticsRecord
    device: str | None = None
    """cpu or cuda; None takes the accelerator that the process has."""
    threads: int | None = None
    """Threads of a process; None leaves torch's own choice."""

    def load(self) -> WordEncoder:
        """CLIP, ready to encode; ValueError if it is another than the one of the record."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        transformers.logging.set_verbosity_error()
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        guide = load_clip(self.name, self.weights, device)
        require_same_clip(guide, self.record)
        return WordEncoder(guide, self.record.templates)


@dataclass(frozen=True)
class Encoding:
    """By which CLIP words are encoded, and where their features are kept until all have some."""

    clip: ClipSource
    parts: VectorParts


def _join(parts: Sequence[WordVectors]) -> WordVectors:
    good = [part for part in parts if part.words]
    return WordVectors(
        tuple(word for part in good for word in part.words),
        np.concatenate([part.vectors for part in good]) if good else np.empty((0, 0), np.float32),
        {word: reason for part in parts for word, reason in part.errors.items()},
    )
