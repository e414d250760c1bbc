"""Scores of a model on a split: pixels for every number of layers, word usage, first words, and CLIP's opinion.

Two rules hold every score to account (facts 8.21): exchanging the words of two pictures must cost many dB, and a
decoder must beat the nearest training picture (`spae.evaluation.baselines`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spae.clip import ClipGuide, image_features
from spae.codebook.usage import LayerUsage, WordUsage
from spae.evaluation.baselines import Baselines, BaselineScore
from spae.evaluation.metrics import (
    ClipAgreement,
    ClipScore,
    Labelled,
    PixelError,
    PixelScore,
    Rebuilt,
    Share,
    WordAccuracy,
    WordCosines,
    derangement,
)
from spae.evaluation.pictures import EncodedBatch, first_words
from spae.model import SPAE, unit_pixels
from spae.vocabulary import Vocabulary


@dataclass(frozen=True)
class WordSimilarity:
    """CLIP, and its features of the model's words, float32 (K, E) (equation 5)."""

    guide: ClipGuide
    semantics: Tensor

    def cosines(self, pixels: Tensor) -> Tensor:
        """s' of equation 6, (B, K), of pixels (B, 3, H, W) float in [0, 1]."""
        return image_features(self.guide, pixels) @ self.semantics.to(self.guide.device).T


@dataclass(frozen=True)
class SplitScore:
    """All scores of a split.

    Attributes:
        samples: pictures that were scored.
        errors: samples that could not be decoded.
        pixels: by number of layers.
        usage: one a layer.
        first_word: how often the first word is the class's name; None without labels or names.
        swapped: pixels from all layers where each picture got the words of another; None below two pictures.
        baselines: what the training split alone can do, if it was given.
        clip: CLIP's opinion, if it was asked.
    """

    samples: int
    errors: int
    pixels: Mapping[int, PixelScore]
    usage: Sequence[LayerUsage]
    first_word: Share | None
    swapped: PixelScore | None
    baselines: BaselineScore | None
    clip: ClipScore | None


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """What is scored beside pixels and usage.

    Attributes:
        layers: numbers of layers to decode; all for None.
        class_words: label of each word that names a class.
        similarity: of pictures and words by CLIP, or None.
        baselines: what the training split gave, or None.
        seed: of the exchange of words.
    """

    layers: tuple[int, ...] | None = None
    class_words: Mapping[int, int]
    similarity: WordSimilarity | None = None
    baselines: Baselines | None = None
    seed: int = 0


class SplitMetrics:
    """A metric over `EncodedBatch` that holds all others; memory does not grow with the split.

    Parts of several processes must be given other seeds.
    """

    def __init__(self, model: SPAE, options: SplitOptions) -> None:
        if options.similarity is not None and len(options.similarity.semantics) != len(model.vocabulary):
            raise ValueError(
                f"CLIP's features are of {len(options.similarity.semantics)} words, and the model has "
                f"{len(model.vocabulary)}; give those of its own words"
            )
        self.model, self.options = model, options
        self.pixels = {layers: PixelError() for layers in options.layers or range(1, model.depth + 1)}
        self.swapped = PixelError()
        self.usage = WordUsage(len(model.vocabulary), model.depth)
        self.first_word = WordAccuracy(options.class_words)
        self.clip = ClipAgreement(options.class_words, model.config.layer_sizes) if options.similarity else None
        self.generator = torch.Generator().manual_seed(options.seed)
        self.errors = 0

    def update(self, batch: EncodedBatch) -> None:
        """Decode and count a batch."""
        self.errors += batch.errors
        if batch.pyramid is None:
            return
        originals = unit_pixels(batch.pixels).to(self.model.device)
        rebuilt = self.model.decode(batch.pyramid)
        for layers, error in self.pixels.items():
            complete = layers == self.model.depth
            error.update(Rebuilt(originals, rebuilt if complete else self.model.decode(batch.pyramid, layers)))
        if len(originals) > 1:
            partners = derangement(len(originals), self.generator).to(originals.device)
            self.swapped.update(Rebuilt(originals, rebuilt[partners]))
        self.usage.update(batch.pyramid)
        self.first_word.update(Labelled(first_words(batch.pyramid), batch.labels))
        if self.clip is not None and self.options.similarity is not None:
            self.clip.update(WordCosines(self.options.similarity.cosines(originals), batch.pyramid, batch.labels))
        if self.options.baselines is not None:
            self.options.baselines.update(batch)

    def merge(self, other: "SplitMetrics") -> None:
        """Add what another with the same model and options counted."""
        for layers, error in self.pixels.items():
            error.merge(other.pixels[layers])
        self.swapped.merge(other.swapped)
        self.usage.merge(other.usage)
        self.first_word.merge(other.first_word)
        if self.clip is not None and other.clip is not None:
            self.clip.merge(other.clip)
        if self.options.baselines is not None and other.options.baselines is not None:
            self.options.baselines.merge(other.options.baselines)
        self.errors += other.errors

    def compute(self) -> SplitScore:
        """The scores of all samples so far; ValueError where no picture could be decoded."""
        pixels = {layers: error.compute() for layers, error in self.pixels.items()}
        named = self.first_word.samples and self.options.class_words
        return SplitScore(
            samples=next(iter(pixels.values())).pictures,
            errors=self.errors,
            pixels=pixels,
            usage=self.usage.compute(),
            first_word=self.first_word.compute() if named else None,
            swapped=self.swapped.compute() if self.swapped.pictures else None,
            baselines=self.options.baselines.compute() if self.options.baselines else None,
            clip=self.clip.compute() if self.clip else None,
        )


def words_of_classes(vocabulary: Vocabulary, names: Mapping[int, str]) -> dict[int, int]:
    """Label of each word id that is a class's name, upper or lower case; of classes of one name, the lowest label."""
    labels: dict[str, int] = {}
    for label, name in sorted(names.items()):
        labels.setdefault(name.casefold(), label)
    folded = {number: word.casefold() for number, word in enumerate(vocabulary.word_list)}
    return {number: labels[word] for number, word in folded.items() if word in labels}
