"""StyleGAN's discriminator as MAGVIT uses it, for images and clips (facts 2.3): no minibatch statistics, no norms."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from spae.config import DiscriminatorConfig
from spae.networks.layers import Downsample, convolution

_SLOPE = 0.2  # of the leaky rectifier


class DiscriminatorBlock(nn.Module):
    """(shortcut + residual) / sqrt 2, both at half the resolution."""

    def __init__(self, dimensions: int, channels: tuple[int, int]) -> None:
        super().__init__()
        before, after = channels
        self.conv1 = convolution(dimensions, (before, before))
        self.down = Downsample((2,) * dimensions)
        self.shortcut = convolution(dimensions, (before, after), kernel=1, bias=False)
        self.conv2 = convolution(dimensions, (before, after))

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, *S) -> (B, after, *S / 2)."""
        h = self.down(F.leaky_relu(self.conv1(x), _SLOPE))
        h = F.leaky_relu(self.conv2(h), _SLOPE)
        return (self.shortcut(self.down(x)) + h) / math.sqrt(2)


class Discriminator(nn.Module):
    """Tells real pictures from reconstructions: pixels (B, 3, *S) in [0, 1] -> logits (B,), high for real ones.

    Args:
        config: channels of the first scale and their multiples in the following ones, each at half the sides.
        input_size: *S; each side divisible by 2 to the number of blocks.
    """

    def __init__(self, config: DiscriminatorConfig, input_size: tuple[int, ...]) -> None:
        super().__init__()
        blocks = len(config.channel_multipliers)
        if any(side % 2**blocks for side in input_size):
            raise ValueError(
                f"input_size={input_size} must be divisible by {2**blocks}, which the {blocks} blocks of the "
                "discriminator halve; give fewer discriminator.channel_multipliers"
            )
        dimensions, channels = len(input_size), config.base_channels
        layers: list[nn.Module] = [convolution(dimensions, (3, channels)), nn.LeakyReLU(_SLOPE)]
        for multiplier in config.channel_multipliers:
            after = config.base_channels * multiplier
            layers.append(DiscriminatorBlock(dimensions, (channels, after)))
            channels = after
        layers += [convolution(dimensions, (channels, channels)), nn.LeakyReLU(_SLOPE)]
        self.body = nn.Sequential(*layers)
        positions = math.prod(side // 2**blocks for side in input_size)
        self.head = nn.Sequential(
            nn.Linear(channels * positions, config.base_channels),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(config.base_channels, 1),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """One logit a picture, (B,)."""
        return self.head(self.body(pixels * 2 - 1).flatten(1))[:, 0]
