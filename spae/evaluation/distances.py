"""Distances between sets of pictures in the features of a network: Frechet distance (FID) and Inception score.

The figures of papers need Inception-v3; any other network gives figures of its own, which compare rows of one table and
nothing else. Sums are float64; memory is that of one E x E matrix, whatever is counted.
"""

import torch
from torch import Tensor


class FeatureMoments:
    """Mean and covariance of features (N, E)."""

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

    def merge(self, other: "FeatureMoments") -> None:
        """Add what another counted."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

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


class InceptionScore:
    """exp of the mean divergence of a picture's class probabilities from those of all: sure and varied is high."""

    def __init__(self, classes: int) -> None:
        self.count = 0
        self.probabilities = torch.zeros(classes, dtype=torch.float64)
        self.negative_entropy = 0.0

    def update(self, probabilities: Tensor) -> None:
        """Count class probabilities (B, classes)."""
        rows = probabilities.detach().double().cpu()
        self.count += len(rows)
        self.probabilities += rows.sum(0)
        self.negative_entropy -= float(torch.special.entr(rows).sum())

    def merge(self, other: "InceptionScore") -> None:
        """Add what another counted."""
        self.count += other.count
        self.probabilities += other.probabilities
        self.negative_entropy += other.negative_entropy

    def compute(self) -> float:
        """The score, between 1 and the number of classes; ValueError where nothing was counted."""
        if not self.count:
            raise ValueError("no pictures were counted; call update first")
        entropy = float(torch.special.entr(self.probabilities / self.count).sum())
        return float(torch.tensor(self.negative_entropy / self.count + entropy, dtype=torch.float64).exp())
