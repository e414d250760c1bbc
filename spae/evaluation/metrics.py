"""Metrics that add up: update with batches, merge the parts of several processes, compute once.

Sums are kept in float64 or integers, so that the order of batches does not show in the figures. Nothing here grows with
the number of pictures, except where a docstring says so.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from spae.pyramid import TokenPyramid

SMALLEST_ERROR = 1e-10
"""Mean squared errors below count as this one: 100 dB, so that an exact copy has a finite PSNR."""

Result = TypeVar("Result", covariant=True)
Summed = TypeVar("Summed", contravariant=True)


class Metric(Protocol[Summed, Result]):
    """One object for one process, Ray Data and all-reduce."""

    def update(self, batch: Summed, /) -> None:
        """Count a batch."""

    def merge(self, other: Self) -> None:
        """Add what another counted."""

    def compute(self) -> Result:
        """The figures; ValueError where nothing was counted."""


@dataclass(frozen=True)
class Rebuilt:
    """Pictures and what was rebuilt of them: both float (B, 3, *S) in [0, 1]."""

    originals: Tensor
    pictures: Tensor


@dataclass(frozen=True)
class Labelled:
    """Word ids int64 (B,), one a picture, and the label of each, None where it has none."""

    words: Tensor
    labels: Sequence[int | None]


@dataclass(frozen=True)
class WordCosines:
    """CLIP's cosines (B, K) of pictures with all words, the pictures' words, and their labels."""

    cosines: Tensor
    pyramid: TokenPyramid
    labels: Sequence[int | None]


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1], at most 100."""
    return -10 * math.log10(max(mean_squared_error, SMALLEST_ERROR))


@dataclass(frozen=True)
class PixelScore:
    """How far pictures are from their originals."""

    psnr: float
    """dB, of the mean squared error over all values of the set; the figure to quote."""
    psnr_mean: float
    """dB, mean over the pictures of each one's own PSNR: higher, for a few good pictures weigh more."""
    mean_squared_error: float
    pictures: int


class PixelError:
    """Squared error of rebuilt pictures, all values of the set weighing the same."""

    def __init__(self) -> None:
        self.error_sum = self.psnr_sum = 0.0  # of the pictures' own mean squared errors and PSNR
        self.pictures = 0

    def update(self, batch: Rebuilt) -> None:
        """Count pictures (B, 3, *S), all of one size."""
        difference = batch.originals.double() - batch.pictures.double()
        errors = difference.square().flatten(1).mean(1)
        self.error_sum += float(errors.sum())
        self.psnr_sum += float((-10 * errors.clamp_min(SMALLEST_ERROR).log10()).sum())
        self.pictures += len(errors)

    def merge(self, other: "PixelError") -> None:
        """Add what another counted."""
        self.error_sum += other.error_sum
        self.psnr_sum += other.psnr_sum
        self.pictures += other.pictures

    def compute(self) -> PixelScore:
        """The scores of all pictures so far."""
        count = _counted(self.pictures, "pictures")
        error = self.error_sum / count
        return PixelScore(psnr(error), self.psnr_sum / count, error, count)


@dataclass(frozen=True)
class Share:
    """A share of samples with its 95% interval by Wilson's formula."""

    share: float
    low: float
    high: float
    correct: int
    samples: int


def wilson(correct: int, samples: int) -> Share:
    """The share correct / samples and its 95% interval, which is sensible near 0 and 1 too."""
    z2 = 1.959964**2
    share = correct / samples
    centre = (share + z2 / (2 * samples)) / (1 + z2 / samples)
    half = math.sqrt(z2 * (share * (1 - share) / samples + z2 / (4 * samples**2))) / (1 + z2 / samples)
    return Share(share, max(centre - half, 0.0), min(centre + half, 1.0), correct, samples)


class WordAccuracy:
    """How often a word names its picture's class; pictures without a label are not counted.

    Args:
        answers: the label that a word stands for. A word that is none of them is wrong, or means `otherwise`.
        otherwise: label for all other words, or None.
    """

    def __init__(self, answers: Mapping[int, int], otherwise: int | None = None) -> None:
        self.answers, self.otherwise = answers, otherwise
        self.correct = self.samples = 0

    def update(self, batch: Labelled) -> None:
        """Count one word a picture."""
        for word, label in zip(batch.words.tolist(), batch.labels, strict=True):
            if label is not None:
                self.samples += 1
                self.correct += self.answers.get(word, self.otherwise) == label

    def merge(self, other: "WordAccuracy") -> None:
        """Add what another with the same answers counted."""
        self.correct += other.correct
        self.samples += other.samples

    def compute(self) -> Share:
        """The share of words that are right."""
        return wilson(self.correct, _counted(self.samples, "labelled pictures"))


class WordLabels:
    """Which labels go with which words: the best map from a word to a class, learnt by counting.

    Grows with the number of different (word, label) pairs.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, int]] = Counter()

    def update(self, batch: Labelled) -> None:
        """Count one word a picture."""
        pairs = zip(batch.words.tolist(), batch.labels, strict=True)
        self.counts.update((word, label) for word, label in pairs if label is not None)

    def merge(self, other: "WordLabels") -> None:
        """Add what another counted."""
        self.counts.update(other.counts)

    def compute(self) -> WordAccuracy:
        """An empty accuracy by the learnt map: each word's most frequent label, the most frequent of all for new words.

        Ties go to the lowest label.
        """
        _counted(self.counts.total(), "labelled pictures")
        answers: dict[int, int] = {}
        totals: Counter[int] = Counter()
        for (word, label), count in sorted(self.counts.items(), key=lambda item: (-item[1], item[0][1])):
            answers.setdefault(word, label)
            totals[label] += count
        return WordAccuracy(answers, min(totals, key=lambda label: (-totals[label], label)))


@dataclass(frozen=True)
class ClipScore:
    """What CLIP thinks of the pictures and their words."""

    zero_shot: Share | None
    """How often the best of the class names' words is the right one; None without any label or such word."""
    best_word: Share | None
    """How often the best word of the whole vocabulary names the class."""
    layers: tuple[float, ...]
    """Mean cosine s' of a picture and the words of each layer (equation 6, facts 5.3)."""
    cumulative: tuple[float, ...]
    """The same over the words of layers 1 to l."""


class ClipAgreement:
    """CLIP's score of words and its own accuracy.

    Args:
        class_words: label of each word that names a class.
        layer_sizes: words a layer.
    """

    def __init__(self, class_words: Mapping[int, int], layer_sizes: Sequence[int]) -> None:
        self.layer_sizes = tuple(layer_sizes)
        self.names = torch.tensor(sorted(class_words), dtype=torch.int64)
        self.zero_shot, self.best_word = WordAccuracy(class_words), WordAccuracy(class_words)
        self.sums = torch.zeros(len(self.layer_sizes), dtype=torch.float64)
        self.pictures = 0

    def update(self, batch: WordCosines) -> None:
        """Count pictures and their words."""
        cosines = batch.cosines.cpu()
        for layer, ids in enumerate(batch.pyramid.layers):
            self.sums[layer] += cosines.gather(1, ids.flatten(1).cpu()).double().sum()
        self.pictures += len(cosines)
        self.best_word.update(Labelled(cosines.argmax(1), batch.labels))
        if len(self.names):
            self.zero_shot.update(Labelled(self.names[cosines[:, self.names].argmax(1)], batch.labels))

    def merge(self, other: "ClipAgreement") -> None:
        """Add what another counted."""
        self.sums += other.sums
        self.pictures += other.pictures
        self.zero_shot.merge(other.zero_shot)
        self.best_word.merge(other.best_word)

    def compute(self) -> ClipScore:
        """The scores of all pictures so far."""
        words = torch.tensor(self.layer_sizes, dtype=torch.float64) * _counted(self.pictures, "pictures")
        return ClipScore(
            zero_shot=self.zero_shot.compute() if self.zero_shot.samples else None,
            best_word=self.best_word.compute() if self.best_word.samples else None,
            layers=tuple((self.sums / words).tolist()),
            cumulative=tuple((self.sums.cumsum(0) / words.cumsum(0)).tolist()),
        )


class NearestPicture:
    """What a lookup would reach: the error of returning the nearest of a set of pictures, by exact search.

    Holds that set, as uint8 (N, 3, *S): N x 3 x H x W bytes, and eight times that of one chunk while searching.
    """

    _CHUNK = 1024

    def __init__(self, candidates: Tensor) -> None:
        if candidates.dtype != torch.uint8 or len(candidates) == 0:
            raise ValueError(f"candidates {tuple(candidates.shape)} {candidates.dtype} must be uint8 (N, 3, *S), N > 0")
        self.candidates = candidates.flatten(1)
        self.squared_sum, self.values = 0, 0

    def update(self, batch: Tensor) -> None:
        """Count pictures uint8 (B, 3, *S)."""
        queries = batch.flatten(1).double()  # sums of squares of bytes are exact in float64
        best = torch.full((len(queries),), math.inf, dtype=torch.float64)
        for chunk in self.candidates.split(self._CHUNK):
            rows = chunk.double()
            distances = queries.square().sum(1)[:, None] + rows.square().sum(1) - 2 * queries @ rows.T
            best = torch.minimum(best, distances.min(1).values)
        self.squared_sum += int(best.sum())
        self.values += queries.numel()

    def merge(self, other: "NearestPicture") -> None:
        """Add what another with the same candidates counted."""
        self.squared_sum += other.squared_sum
        self.values += other.values

    def compute(self) -> float:
        """PSNR in dB, of the mean squared error over all values of the set."""
        return psnr(self.squared_sum / _counted(self.values, "pictures") / 255**2)


def derangement(count: int, generator: torch.Generator) -> Tensor:
    """A random partner for each of `count` samples, never itself, int64 (count,); one random cycle through all.

    ValueError for fewer than two.
    """
    if count < 2:
        raise ValueError(f"{count} samples cannot be exchanged; need at least 2")
    cycle = torch.randperm(count, generator=generator)
    partners = torch.empty_like(cycle)
    partners[cycle] = cycle.roll(-1)
    return partners


def _counted(count: int, what: str) -> int:
    if count == 0:
        raise ValueError(f"no {what} were counted; call update first, or give a split that holds some")
    return count
