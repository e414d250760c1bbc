"""Encoder and decoder: the convolutional halves around the quantizer, for images and clips (facts 2.2).

With the paper's shape at width 1,536 the two hold 59.4 million parameters. No attention: a latent sees the picture
through its convolutions and the group norms.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spae.collectives import sum_over_ranks, world_size
from spae.config import LatentStatistics, SPAEConfig
from spae.networks.layers import Downsample, ResidualBlock, Upsample, convolution, normalisation


def scale_factors(config: SPAEConfig) -> list[tuple[int, ...]]:
    """Downsampling factors between consecutive scales, finest first: frames halve only twice (facts 2.4)."""
    halvings = len(config.network.channel_multipliers) - 1
    spatial = (2, 2)
    if len(config.input_size) == 2:
        return [spatial] * halvings
    return [(2 if step < 2 else 1, *spatial) for step in range(halvings)]


def memory_layout(config: SPAEConfig) -> torch.memory_format:
    """How networks and pictures lie in memory: channels last, where convolutions are faster so.

    With 64 base channels a pass and its gradient take 0.86 of the time in float32 and 0.93 in bfloat16 (on a CPU), but
    with the 12 of digits-32 in bfloat16 1.5 times as long.
    """
    if config.network.base_channels % 16:
        return torch.contiguous_format
    return torch.channels_last if len(config.input_size) == 2 else torch.channels_last_3d


class Encoder(nn.Module):
    """Pixels (B, 3, *S) in [-1, 1] -> (B, C, *latent grid), C the width of the word embeddings."""

    def __init__(self, config: SPAEConfig) -> None:
        super().__init__()
        network, dimensions = config.network, len(config.input_size)
        channels = network.base_channels
        layers: list[nn.Module] = [convolution(dimensions, (3, channels), bias=False)]
        factors = scale_factors(config)
        for scale, multiplier in enumerate(network.channel_multipliers):
            for _ in range(network.residual_blocks):
                layers.append(ResidualBlock(dimensions, (channels, network.base_channels * multiplier)))
                channels = network.base_channels * multiplier
            if scale < len(factors):
                layers.append(Downsample(factors[scale]))
        layers += [ResidualBlock(dimensions, (channels, channels)) for _ in range(network.middle_blocks)]
        self.body = nn.Sequential(*layers)
        self.norm = normalisation(channels)
        self.head = convolution(dimensions, (channels, config.embedding_width), kernel=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Raw latents; `LatentNormalisation` brings them to the table's statistics."""
        return self.head(F.silu(self.norm(self.body(pixels))))


class Decoder(nn.Module):
    """Quantized latents (B, C, *latent grid) -> pixels (B, 3, *S), about [-1, 1], not clipped."""

    def __init__(self, config: SPAEConfig) -> None:
        super().__init__()
        network, dimensions = config.network, len(config.input_size)
        channels = network.base_channels * network.channel_multipliers[-1]
        layers: list[nn.Module] = [convolution(dimensions, (config.embedding_width, channels))]
        layers += [ResidualBlock(dimensions, (channels, channels)) for _ in range(network.middle_blocks)]
        factors = scale_factors(config)[::-1]
        for scale, multiplier in enumerate(reversed(network.channel_multipliers)):
            for _ in range(network.residual_blocks):
                layers.append(ResidualBlock(dimensions, (channels, network.base_channels * multiplier)))
                channels = network.base_channels * multiplier
            if scale < len(factors):
                layers.append(Upsample(factors[scale], channels))
        self.body = nn.Sequential(*layers)
        self.norm = normalisation(channels)
        self.head = convolution(dimensions, (channels, 3))

    def forward(self, latents: Tensor) -> Tensor:
        """Pixels of the whole batch."""
        return self.head(F.silu(self.norm(self.body(latents))))


class LatentNormalisation(nn.Module):
    """Brings the encoder's output to the mean and spread of the word embeddings, without parameters (facts 8.4).

    In training the batch's statistics, over all ranks, are used and remembered; in evaluation only the remembered ones,
    so that a token never depends on what else is in the batch.

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

    def forward(self, raw: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C, *S); per channel the table's mean, and its spread, equal in all channels."""
        raw = raw.float()
        if self.statistics == "none":
            return raw
        mean, variance = self._batch_statistics(raw) if self.training else (self.mean, self.variance)
        unit = (raw - mean) * (variance + self.epsilon).rsqrt()
        return self.table_mean + self.table_spread * unit

    def _batch_statistics(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        axes = (0,) if self.statistics == "position" else (0, *range(2, raw.ndim))
        count = math.prod(raw.shape[axis] for axis in axes) * world_size()
        mean = sum_over_ranks(raw.sum(axes)) / count
        mean = mean.reshape(self.mean.shape)
        variance = sum_over_ranks((raw - mean).square().sum(axes)).reshape(self.mean.shape) / count
        with torch.no_grad():  # a batch that is not finite leaves no trace
            for kept, seen in ((self.mean, mean), (self.variance, variance)):
                kept.copy_(torch.where(seen.isfinite().all(), kept.lerp(seen, self.momentum), kept))
        return mean, variance
