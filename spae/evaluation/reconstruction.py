"""Scores of a model on a split: pixels per number of layers, word usage, first words, and what they must beat.

The two rules of facts 8.21 belong to every score: exchanging the words of two pictures must cost many dB, and a decoder
must beat the lookup of the nearest training picture.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spae.clip import ClipGuide, image_features
from spae.evaluation.metrics import (
    ClipJudgement,
    Judged,
    Labelled,
    NearestPicture,
    PixelError,
    Rebuilt,
    WordAccuracy,
    WordLabels,
    derangement,
)
from spae.evaluation.pictures import channels_first, encode_in_batches, read_pictures
from spae.model import SPAE, unit_pixels
from spae.pyramid import TokenPyramid
from spae.records import ShardInfo
from spae.usage import WordUsage
from spae.vocabulary import Vocabulary

TokenSource = Callable[[ShardInfo, Sequence[str]], TokenPyramid]
"""The stored words of some samples of a shard, by their keys."""


@dataclass(frozen=True)
class EncodedBatch:
    """Pictures of one shard and their words.

    Attributes:
        pixels: uint8 (B, 3, H, W); B is 0 where none of the samples could be decoded.
        labels: B labels, None where a sample has none.
        pyramid: their words; None where B is 0.
        errors: samples among them that could not be decoded.
    """

    pixels: Tensor
    labels: tuple[int | None, ...]
    pyramid: TokenPyramid | None
    errors: int

    def __len__(self) -> int:
        """Samples, those that could not be decoded too."""
        return len(self.labels) + self.errors


def encoded_batches(
    model: SPAE, shards: Iterable[ShardInfo], batch: int, tokens: TokenSource | None = None
) -> Iterator[EncodedBatch]:
    """Pictures of shards with their words, encoded at one batch shape or taken from `tokens`."""
    for shard in shards:
        for pictures in read_pictures(shard, model.config.input_size, batch):
            pyramid = None
            if pictures.keys:
                encoded = encode_in_batches(model, pictures.pixels, batch) if tokens is None else None
                pyramid = encoded or tokens(shard, pictures.keys)
            yield EncodedBatch(channels_first(pictures.pixels), pictures.labels, pyramid, len(pictures.errors))


@dataclass(frozen=True)
class Judge:
    """CLIP and its features of all words, float32 (K, E) (equation 5)."""

    guide: ClipGuide
    semantics: Tensor

    def cosines(self, pixels: Tensor) -> Tensor:
        """s' of equation 6, (B, K), of pixels (B, 3, H, W) float in [0, 1]."""
        return image_features(self.guide, pixels) @ self.semantics.to(self.guide.device).T


class TrainingSplit:
    """What can be had from the training split without a decoder: a map from first words to labels, and the pictures.

    Holds all pictures: 3 x H x W bytes each.
    """

    def __init__(self) -> None:
        self.first_words = WordLabels()
        self.parts: list[Tensor] = []

    def update(self, batch: EncodedBatch) -> None:
        """Learn from a batch."""
        if batch.pyramid is not None:
            self.first_words.update(Labelled(first_words(batch.pyramid), batch.labels))
            self.parts.append(batch.pixels)

    def merge(self, other: "TrainingSplit") -> None:
        """Add what another learnt."""
        self.first_words.merge(other.first_words)
        self.parts += other.parts

    def compute(self) -> "TrainingBaselines":
        """Baselines for another split; ValueError where there was no picture or no label."""
        if not self.parts:
            raise ValueError("the training split holds no picture that can be decoded; give another")
        pictures = torch.cat(self.parts)
        mean = torch.stack([part.double().sum(0) for part in self.parts]).sum(0) / len(pictures) / 255
        return TrainingBaselines(
            len(pictures), self.first_words.compute(), NearestPicture(pictures), MeanPicture(mean)
        )


class MeanPicture:
    """The error of returning one picture, float (3, H, W) in [0, 1], for all."""

    def __init__(self, picture: Tensor) -> None:
        self.picture, self.error = picture, PixelError()


@dataclass(frozen=True)
class TrainingBaselines:
    """Scores of what the training split alone can do."""

    pictures: int
    learnt_map: WordAccuracy
    nearest: NearestPicture
    mean: MeanPicture


def first_words(pyramid: TokenPyramid) -> Tensor:
    """The first word of each picture, int64 (B,)."""
    return pyramid.flatten(1)[:, 0]


def words_of_classes(vocabulary: Vocabulary, names: Mapping[int, str]) -> dict[int, int]:
    """Label of each word id that is a class's name, in any case of letters; of classes of one name, the lowest label."""
    labels: dict[str, int] = {}
    for label, name in sorted(names.items()):
        labels.setdefault(name.casefold(), label)
    words = ((number, labels.get(word.casefold())) for number, word in enumerate(vocabulary.word_list))
    return {number: label for number, label in words if label is not None}
