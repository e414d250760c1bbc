"""The encoder's output brought to the statistics of the word embeddings."""

import math

import torch
from torch import Tensor, nn

from spae.collectives import sum_over_ranks, world_size
from spae.config import SMALLEST_BATCH, LatentStatistics


class LatentNormalisation(nn.Module):
    """Brings the encoder's output to the mean and spread of the word embeddings, without parameters (facts 8.4).

    In training the batch's statistics, over all ranks, are used and remembered. `stored` uses only the remembered ones,
    in any mode, so that a token never depends on what else is in the batch.

    Args:
        statistics: "position" keeps a mean and variance a position and channel, "channel" one a channel, "none" passes
            the encoder's output through.
        table: (K, C) the word embeddings.
        latent_grid: sides of the latent.
    """

    mean: Tensor
    variance: Tensor
    table_mean: Tensor
    table_spread: Tensor

    def __init__(self, statistics: LatentStatistics, table: Tensor, latent_grid: tuple[int, ...]) -> None:
        super().__init__()
        width = table.shape[1]
        sides = latent_grid if statistics == "position" else (1,) * len(latent_grid)
        self.statistics, self.momentum, self.epsilon = statistics, 0.05, 1e-5
        self.register_buffer("mean", torch.zeros(width, *sides))
        self.register_buffer("variance", torch.ones(width, *sides))
        self.register_buffer("table_mean", torch.zeros(width, *[1] * len(latent_grid)), persistent=False)
        self.register_buffer("table_spread", torch.ones(()), persistent=False)
        self.follow(table)

    def follow(self, table: Tensor) -> None:
        """Take the mean and spread of a table (K, C) as the goal."""
        centre = table.float().mean(0)
        spread = (table.float() - centre).square().sum(1).mean().div(len(centre)).sqrt()
        self.table_mean.copy_(centre.view_as(self.table_mean))
        self.table_spread.copy_(spread)

    def forward(self, raw: Tensor, whole: int | None = None) -> Tensor:
        """(B, C, *S) -> (B, C, *S); per channel the table's mean, and its spread, equal in all channels.

        `whole` is B over all ranks, in training; None where it is the same on each.
        """
        if self.statistics == "none" or not self.training:
            return self.stored(raw)
        raw = raw.float()
        return self._normalise(raw, *self._batch_statistics(raw, whole or len(raw) * world_size()))

    def stored(self, raw: Tensor) -> Tensor:
        """The same by the remembered statistics, whether training or not."""
        raw = raw.float()
        return raw if self.statistics == "none" else self._normalise(raw, self.mean, self.variance)

    def _normalise(self, raw: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        unit = (raw - mean) * (variance + self.epsilon).rsqrt()
        return self.table_mean + self.table_spread * unit

    def _batch_statistics(self, raw: Tensor, whole: int) -> tuple[Tensor, Tensor]:
        axes = (0,) if self.statistics == "position" else (0, *range(2, raw.ndim))
        count = whole * math.prod(raw.shape[axis] for axis in axes[1:])
        if count < SMALLEST_BATCH:
            raise ValueError(
                f"statistics of {count} latents leave nothing to train; give a batch of at least {SMALLEST_BATCH}"
            )
        mean = sum_over_ranks(raw.sum(axes)) / count
        mean = mean.reshape(self.mean.shape)
        variance = sum_over_ranks((raw - mean).square().sum(axes)).reshape(self.mean.shape) / count
        with torch.no_grad():  # a batch that is not finite leaves no trace
            for kept, seen in ((self.mean, mean), (self.variance, variance)):
                kept.copy_(torch.where(seen.isfinite().all(), kept.lerp(seen, self.momentum), kept))
        return mean, variance
