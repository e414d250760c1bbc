"""StyleGAN's discriminator as MAGVIT uses it, for images and clips (facts 2.3): no minibatch statistics, no norms."""

import math
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from spae.config import DiscriminatorConfig
from spae.networks.inflation import Inflation, inflate_weights
from spae.networks.layers import Downsample, convolution

_SLOPE = 0.2  # of the leaky rectifier


class DiscriminatorBlock(nn.Module):
    """(shortcut + residual) / sqrt 2, both smaller by `factors`, one an axis."""

    def __init__(self, factors: tuple[int, ...], channels: tuple[int, int]) -> None:
        super().__init__()
        before, after = channels
        dimensions = len(factors)
        self.conv1 = convolution(dimensions, (before, before))
        self.down = Downsample(factors)
        self.shortcut = convolution(dimensions, (before, after), kernel=1, bias=False)
        self.conv2 = convolution(dimensions, (before, after))

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, *S) -> (B, after, *S / factors)."""
        h = self.down(F.leaky_relu(self.conv1(x), _SLOPE))
        h = F.leaky_relu(self.conv2(h), _SLOPE)
        return (self.shortcut(self.down(x)) + h) / math.sqrt(2)


class Discriminator(nn.Module):
    """Tells real pictures from reconstructions: pixels (B, 3, *S) in [0, 1] -> logits (B,), high for real ones.

    Args:
        config: channels of the first scale and their multiples in the following ones, each at half the sides.
        input_size: *S; height and width divisible by 2 to the number of blocks. Frames halve while they are even.
    """

    def __init__(self, config: DiscriminatorConfig, input_size: tuple[int, ...]) -> None:
        super().__init__()
        dimensions, channels = len(input_size), config.base_channels
        layers: list[nn.Module] = [convolution(dimensions, (3, channels)), nn.LeakyReLU(_SLOPE)]
        size = input_size
        for multiplier, factors in zip(config.channel_multipliers, block_factors(config, input_size), strict=True):
            after = config.base_channels * multiplier
            layers.append(DiscriminatorBlock(factors, (channels, after)))
            channels = after
            size = tuple(side // factor for side, factor in zip(size, factors, strict=True))
        layers += [convolution(dimensions, (channels, channels)), nn.LeakyReLU(_SLOPE)]
        self.body, self.channels = nn.Sequential(*layers), channels
        self.head = nn.Sequential(
            nn.Linear(channels * math.prod(size), config.base_channels),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(config.base_channels, 1),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """One logit a picture, (B,)."""
        return self.head(self.body(pixels * 2 - 1).flatten(1))[:, 0]

    def load_inflated(self, image: Mapping[str, Tensor], kernels: Inflation) -> None:
        """Take up the state of an image discriminator (see `inflation.py`); the dense layer sees the mean over frames.

        ValueError where it has other layers.
        """
        own = self.state_dict()
        name = "head.0.weight"
        dense = image[name].unflatten(1, (self.channels, -1))  # (out, C, height x width), frames go before the height
        frames = own[name].shape[1] // image[name].shape[1]
        dense = (dense / frames).unsqueeze(2).repeat(1, 1, frames, 1).flatten(1)
        self.load_state_dict(inflate_weights({**image, name: dense}, own, kernels))


def block_factors(config: DiscriminatorConfig, input_size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Downsampling factors of each block: height and width always halve, frames while they are even.

    16 frames of 128 pixels end at 1 x 4 x 4, as in MAGVIT. ValueError where height or width do not halve so often.
    """
    blocks = len(config.channel_multipliers)
    if any(side % 2**blocks for side in input_size[-2:]):
        raise ValueError(
            f"input_size={input_size} must be divisible by {2**blocks} in height and width, which the {blocks} blocks "
            "of the discriminator halve; give fewer discriminator.channel_multipliers"
        )
    if len(input_size) == 2:
        return [(2, 2)] * blocks
    return [(1 if input_size[0] % 2 ** (block + 1) else 2, 2, 2) for block in range(blocks)]
