"""Convolution, residual block, down- and upsampling for images and clips from one definition.

Every layer takes (B, C, *S) with two or three spatial axes; `dimensions` says which. The blocks are those of the
MaskGIT and MAGVIT tokenizers (facts 2.2): group norm, swish, convolutions without bias inside a residual block.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_POOLS = {2: F.avg_pool2d, 3: F.avg_pool3d}


class ClipConvolution(nn.Conv3d):
    """A convolution over clips; of fewer frames than its kernel has, in float32 on a CPU.

    There oneDNN's bfloat16 gradient of the weights reads memory that nobody wrote (torch 2.15 on AVX-512: two frames, a
    kernel of three, in half of the trials up to infinity).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, H, W)."""
        if x.device.type == "cpu" and x.shape[2] < self.kernel_size[0]:
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


_CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: ClipConvolution}


def convolution(dimensions: int, channels: tuple[int, int], kernel: int = 3, *, bias: bool = True) -> nn.Module:
    """Size-keeping convolution from channels[0] to channels[1]."""
    if dimensions not in _CONVOLUTIONS:
        raise ValueError(f"dimensions={dimensions} must be 2 (images) or 3 (clips)")
    return _CONVOLUTIONS[dimensions](*channels, kernel, padding=kernel // 2, bias=bias)


class GroupNorm(nn.GroupNorm):
    """Group norm in float32: CPU autocast, unlike CUDA's, leaves it in bfloat16, nine times slower backward."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C, *S) float32."""
        return super().forward(x.float())


def normalisation(channels: int) -> nn.GroupNorm:
    """Group norm of 32 groups, or of as many as divide the channels."""
    return GroupNorm(math.gcd(32, channels), channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))), with a 1x1 convolution on x where the channels change."""

    def __init__(self, dimensions: int, channels: tuple[int, int]) -> None:
        super().__init__()
        before, after = channels
        self.norm1 = normalisation(before)
        self.conv1 = convolution(dimensions, (before, after), bias=False)
        self.norm2 = normalisation(after)
        self.conv2 = convolution(dimensions, (after, after), bias=False)
        same = before == after
        self.shortcut = nn.Identity() if same else convolution(dimensions, channels, kernel=1, bias=False)
        self.recomputes = False

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, *S) -> (B, after, *S)."""
        if self.recomputes and torch.is_grad_enabled():
            out: Tensor = checkpoint(self._transformed, x, use_reentrant=False)
            return out
        return self._transformed(x)

    def _transformed(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.shortcut(x) + h


def recompute_activations(network: nn.Module, recomputes: bool = True) -> None:
    """Let the residual blocks of a network hold their inputs alone, and compute the rest again for the gradient.

    Gradients are the same bit for bit on one device. docs/video.md tells memory and operations of both.
    """
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            module.recomputes = recomputes


class Downsample(nn.Module):
    """Average over blocks of `factors`, one factor an axis."""

    def __init__(self, factors: tuple[int, ...]) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C, *S / factors)."""
        return _POOLS[len(self.factors)](x, self.factors)


class Upsample(nn.Module):
    """Repeat every value `factors` times along its axes, then convolve."""

    def __init__(self, factors: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.factors = tuple(float(factor) for factor in factors)
        self.conv = convolution(len(factors), (channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C, *S * factors)."""
        return self.conv(F.interpolate(x, scale_factor=self.factors, mode="nearest"))
