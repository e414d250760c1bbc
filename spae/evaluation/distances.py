"""Distances between sets of pictures in the features of a network: Frechet distance (FID) and Inception score.

The figures of papers need Inception-v3; any other network gives figures of its own, which compare rows of one table and
nothing else. Sums are float64; memory is that of one E x E matrix, whatever is counted.
"""

import torch
from torch import Tensor

from spae.evaluation.metrics import Sums, counted


class FeatureMoments(Sums):
    """Mean and covariance of features (N, E)."""

    SUMS = ("count", "total", "squares")

    def __init__(self, width: int) -> None:
        self.count = 0
        self.total = torch.zeros(width, dtype=torch.float64)
        self.squares = torch.zeros(width, width, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Count features (B, E)."""
        rows = features.detach().double().cpu()
        self.count += len(rows)
        self.total += rows.sum(0)
        self.squares += rows.T @ rows

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean (E,) and unbiased covariance (E, E); ValueError below two features."""
        if self.count < 2:
            raise ValueError(f"{self.count} pictures have no covariance; count at least two")
        mean = self.total / self.count
        covariance = (self.squares - self.count * torch.outer(mean, mean)) / (self.count - 1)
        return mean, covariance


def frechet_distance(one: FeatureMoments, other: FeatureMoments) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), the FID where the features are Inception's.

    The root's trace comes from the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric: no complex rest to drop.
    """
    (mean1, covariance1), (mean2, covariance2) = one.compute(), other.compute()
    values, vectors = torch.linalg.eigh(covariance1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ covariance2 @ root).clamp(min=0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + covariance1.trace() + covariance2.trace() - 2 * shared
    return float(distance.clamp(min=0))


class InceptionScore(Sums):
    """exp of the mean divergence of a picture's class probabilities from those of all: sure and varied is high.

    Args:
        classes: how many.
        splits: parts of the set whose scores are averaged; papers take 10 of 50,000 pictures, which gives lower scores.
    """

    SUMS = ("counts", "probabilities", "negative_entropies")

    def __init__(self, classes: int, splits: int = 1) -> None:
        self.counts = torch.zeros(splits, dtype=torch.int64)
        self.probabilities = torch.zeros(splits, classes, dtype=torch.float64)
        self.negative_entropies = torch.zeros(splits, dtype=torch.float64)

    def update(self, probabilities: Tensor, parts: Tensor | None = None) -> None:
        """Count class probabilities (B, classes), each in its part, int64 (B,), all in the first by default."""
        rows = probabilities.detach().double().cpu()
        places = torch.zeros(len(rows), dtype=torch.int64) if parts is None else parts
        self.counts.index_add_(0, places, torch.ones_like(places))
        self.probabilities.index_add_(0, places, rows)
        self.negative_entropies.index_add_(0, places, -torch.special.entr(rows).sum(1))

    def compute(self) -> float:
        """The mean score of the parts that hold pictures, between 1 and the number of classes; ValueError without."""
        filled = self.counts > 0
        counted(int(self.counts.sum()), "pictures")
        counts = self.counts[filled]
        entropies = torch.special.entr(self.probabilities[filled] / counts[:, None]).sum(1)
        return float((self.negative_entropies[filled] / counts + entropies).exp().mean())


class MeanDistance(Sums):
    """Mean of distances, one a picture."""

    SUMS = ("distance_sum", "pictures")

    def __init__(self) -> None:
        self.distance_sum, self.pictures = 0.0, 0

    def update(self, distances: Tensor) -> None:
        """Count distances (B,)."""
        self.distance_sum += float(distances.double().sum())
        self.pictures += len(distances)

    def compute(self) -> float:
        """The mean; ValueError where nothing was counted."""
        return self.distance_sum / counted(self.pictures, "pictures")
