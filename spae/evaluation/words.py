"""What words tell: the class of their picture, what CLIP thinks of them, and whether people use them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spae.clip.pools import in_pool, min_max, pool_sizes
from spae.codebook.usage import LayerUsage, WordUsage
from spae.evaluation.metrics import Share, Sums, counted, wilson
from spae.pyramid import TokenPyramid

READABLE_ZIPF = 3.0
"""Words at least as frequent as once in a million words of English count as readable."""


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


class WordAccuracy(Sums):
    """How often a word names its picture's class; pictures without a label are not counted.

    Args:
        answers: the label that a word stands for. A word that is none of them is wrong, or means `otherwise`.
        otherwise: label for all other words, or None.
    """

    SUMS = ("correct", "samples")

    def __init__(self, answers: Mapping[int, int], otherwise: int | None = None) -> None:
        self.answers, self.otherwise = answers, otherwise
        self.correct = self.samples = 0

    def update(self, batch: Labelled) -> None:
        """Count one word a picture."""
        for word, label in zip(batch.words.tolist(), batch.labels, strict=True):
            if label is not None:
                self.samples += 1
                self.correct += self.answers.get(word, self.otherwise) == label

    def compute(self) -> Share:
        """The share of words that are right."""
        return wilson(self.correct, counted(self.samples, "labelled pictures"))


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
        counted(self.counts.total(), "labelled pictures")
        answers: dict[int, int] = {}
        totals: Counter[int] = Counter()
        for (word, label), count in sorted(self.counts.items(), key=lambda item: (-item[1], item[0][1])):
            answers.setdefault(word, label)
            totals[label] += count
        return WordAccuracy(answers, min(totals, key=lambda label: (-totals[label], label)))


@dataclass(frozen=True)
class PoolShare:
    """How many of a layer's words lie in their pictures' pools (equation 4), and how many of all words do."""

    threshold: float
    share: float
    uniform: float


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
    relative: tuple[float, ...]
    """Mean s of a layer's words, the cosine between an image's worst word at 0 and its best at 1 (equation 6)."""
    pools: tuple[PoolShare, ...]
    """Of each layer that has a threshold."""


class ClipAgreement(Sums):
    """CLIP's score of words and its own accuracy.

    Args:
        class_words: label of each word that names a class.
        layer_sizes: words a layer.
        thresholds: rho of the first layers' pools (equation 4).
    """

    SUMS = ("sums", "relative_sums", "pool_hits", "pool_shares", "pictures")
    PARTS = ("zero_shot", "best_word")

    def __init__(
        self, class_words: Mapping[int, int], layer_sizes: Sequence[int], thresholds: Sequence[float] = ()
    ) -> None:
        self.layer_sizes = tuple(layer_sizes)
        self.thresholds = tuple(thresholds)[: len(self.layer_sizes)]
        self.names = torch.tensor(sorted(class_words), dtype=torch.int64)
        self.zero_shot, self.best_word = WordAccuracy(class_words), WordAccuracy(class_words)
        self.sums, self.relative_sums = torch.zeros(2, len(self.layer_sizes), dtype=torch.float64)
        self.pool_hits, self.pool_shares = torch.zeros(2, len(self.thresholds), dtype=torch.float64)
        self.pictures = 0

    def update(self, batch: WordCosines) -> None:
        """Count pictures and their words."""
        cosines = batch.cosines.cpu()
        relative = min_max(cosines)
        for layer, ids in enumerate(batch.pyramid.layers):
            words = ids.flatten(1).cpu()
            self.sums[layer] += cosines.gather(1, words).double().sum()
            self.relative_sums[layer] += relative.gather(1, words).double().sum()
            if layer < len(self.thresholds):
                self.pool_hits[layer] += in_pool(relative, words, self.thresholds[layer]).sum()
        if self.thresholds:
            self.pool_shares += pool_sizes(relative, self.thresholds).double().sum(0) / relative.shape[1]
        self.pictures += len(cosines)
        self.best_word.update(Labelled(cosines.argmax(1), batch.labels))
        if len(self.names):
            self.zero_shot.update(Labelled(self.names[cosines[:, self.names].argmax(1)], batch.labels))

    def compute(self) -> ClipScore:
        """The scores of all pictures so far."""
        words = torch.tensor(self.layer_sizes, dtype=torch.float64) * counted(self.pictures, "pictures")
        hits, uniform = self.pool_hits / words[: len(self.thresholds)], self.pool_shares / self.pictures
        return ClipScore(
            zero_shot=self.zero_shot.compute() if self.zero_shot.samples else None,
            best_word=self.best_word.compute() if self.best_word.samples else None,
            layers=tuple((self.sums / words).tolist()),
            cumulative=tuple((self.sums.cumsum(0) / words.cumsum(0)).tolist()),
            relative=tuple((self.relative_sums / words).tolist()),
            pools=tuple(map(PoolShare, self.thresholds, hits.tolist(), uniform.tolist())),
        )


def readable_words(words: Sequence[str]) -> Tensor | None:
    """Which words have a Zipf frequency of 3 or more in English (package wordfreq), bool (K,); None without it."""
    try:
        from wordfreq import zipf_frequency
    except ModuleNotFoundError:
        return None
    return torch.tensor([zipf_frequency(word.strip(), "en") >= READABLE_ZIPF for word in words])


class UsedWords(Sums):
    """How often each layer uses each word."""

    SUMS = ("counts",)

    def __init__(self, words: int, layers: int) -> None:
        self.counts = torch.zeros(layers, words, dtype=torch.int64)

    def update(self, pyramid: TokenPyramid) -> None:
        """Count the words of a batch."""
        usage = self._usage()
        usage.update(pyramid)
        self.counts = usage.counts

    def compute(self) -> list[LayerUsage]:
        """One summary a layer; ValueError where nothing was counted."""
        return self._usage().compute()

    def shares(self, which: Tensor) -> list[float]:
        """Of each layer, the share of its words that are among `which`, bool (K,)."""
        return (self.counts[:, which].sum(1) / self.counts.sum(1)).tolist()

    def _usage(self) -> WordUsage:
        usage = WordUsage(self.counts.shape[1], len(self.counts))
        usage.counts = self.counts
        return usage
