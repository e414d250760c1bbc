"""What the training split alone can do, without a decoder: the least that a model has to beat."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spae.evaluation.metrics import Share, Sums
from spae.evaluation.pictures import EncodedBatch, first_words
from spae.evaluation.pixels import NearestPicture, PixelError, Rebuilt
from spae.evaluation.words import Labelled, WordAccuracy, WordLabels
from spae.model import unit_pixels


@dataclass(frozen=True)
class BaselineScore:
    """How far one gets with the training split.

    Attributes:
        pictures: pictures of the training split.
        learnt_map: first words right by the best map from a word to a class, learnt there; None without labels.
        nearest_psnr: dB of returning the nearest training picture.
        mean_psnr: dB of returning the mean training picture.
    """

    pictures: int
    learnt_map: Share | None
    nearest_psnr: float
    mean_psnr: float


class TrainingSplit:
    """Collects what the baselines need. Holds all pictures: 3 x H x W bytes each."""

    def __init__(self) -> None:
        self.first_words = WordLabels()
        self.pictures: list[Tensor] = []

    def update(self, batch: EncodedBatch) -> None:
        """Learn from a batch of the training split."""
        if batch.pyramid is not None:
            self.first_words.update(Labelled(first_words(batch.pyramid), batch.labels))
            self.pictures.append(batch.pixels)

    def merge(self, other: "TrainingSplit") -> None:
        """Add what another learnt."""
        self.first_words.merge(other.first_words)
        self.pictures += other.pictures

    def compute(self) -> "Baselines":
        """Baselines for another split; ValueError where there was no picture."""
        if not self.pictures:
            raise ValueError("the training split holds no picture that can be decoded; give another")
        pictures = torch.cat(self.pictures)
        mean = sum((part.double().sum(0) for part in self.pictures), torch.zeros(1)) / len(pictures) / 255
        learnt = self.first_words.compute() if self.first_words.counts else None
        return Baselines(NearestPicture(pictures), mean, learnt)


class Baselines(Sums):
    """Scores another split by the training split: a metric over `EncodedBatch`.

    Args:
        nearest: finds the nearest picture of the training split.
        mean: the mean picture there.
        learnt_map: from words to classes; None without labels.
    """

    PARTS = ("nearest", "learnt_map", "mean_error")

    def __init__(self, nearest: NearestPicture, mean: Tensor, learnt_map: WordAccuracy | None) -> None:
        self.nearest, self.mean, self.learnt_map, self.mean_error = nearest, mean, learnt_map, PixelError()

    def fresh(self) -> "Baselines":
        """The same before anything was counted."""
        answers = self.learnt_map and WordAccuracy(self.learnt_map.answers, self.learnt_map.otherwise)
        return Baselines(self.nearest.fresh(), self.mean, answers)

    def update(self, batch: EncodedBatch) -> None:
        """Count a batch."""
        if batch.pyramid is None:
            return
        self.nearest.update(batch.pixels)
        self.mean_error.update(Rebuilt(unit_pixels(batch.pixels), self.mean[None]))
        if self.learnt_map is not None:
            self.learnt_map.update(Labelled(first_words(batch.pyramid), batch.labels))

    def compute(self) -> BaselineScore:
        """The scores of all pictures so far."""
        labelled = self.learnt_map is not None and self.learnt_map.samples
        return BaselineScore(
            pictures=len(self.nearest.candidates),
            learnt_map=self.learnt_map.compute() if self.learnt_map is not None and labelled else None,
            nearest_psnr=self.nearest.compute(),
            mean_psnr=self.mean_error.compute().psnr,
        )
