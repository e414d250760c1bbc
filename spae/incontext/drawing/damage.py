"""How pictures are damaged for denoising (facts 4), and how words are."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

RATES = tuple(round(0.5 - 0.03 * step, 2) for step in range(10))
"""Share of words that are exchanged in each of ten pairs, from the first to the last."""


def _blur(pixels: Tensor, sigma: float) -> Tensor:
    reach = max(1, round(3 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=pixels.dtype) / sigma) ** 2)
    kernel = (weights / weights.sum()).expand(pixels.shape[1], 1, 1, -1)
    across = functional.conv2d(functional.pad(pixels, (reach, reach, 0, 0), "replicate"), kernel, groups=len(kernel))
    padded = functional.pad(across, (0, 0, reach, reach), "replicate")
    return functional.conv2d(padded, kernel.transpose(2, 3), groups=len(kernel))


def _without(pixels: Tensor, top: float, bottom: float, left: float, right: float) -> Tensor:
    """Grey from some share of height and width to another."""
    height, width = pixels.shape[-2:]
    damaged = pixels.clone()
    damaged[..., round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = 0.5
    return damaged


def _shift(pixels: Tensor) -> Tensor:
    """An eighth down and to the right; what comes in from outside repeats the border."""
    height, width = pixels.shape[-2:]
    down, right = height // 8, width // 8
    return functional.pad(pixels, (right, 0, down, 0), "replicate")[..., :height, :width]


def _smaller(pixels: Tensor) -> Tensor:
    size = pixels.shape[-2:]
    return functional.interpolate(functional.avg_pool2d(pixels, 4), size=size, mode="bicubic").clamp(0, 1)


DAMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "outpainting": lambda pixels: _without(pixels, 0.5, 1, 0, 1),
    "inpainting": lambda pixels: _without(pixels, 0.25, 0.75, 0.25, 0.75),
    "deblurring": lambda pixels: _blur(pixels, pixels.shape[-1] / 24),
    "shift": _shift,
    "rotation": lambda pixels: pixels.rot90(1, (-2, -1)),
    "super-resolution": _smaller,
    "colourisation": lambda pixels: pixels.mean(1, keepdim=True).expand_as(pixels),
}
"""By name, what is done to pixels (n, 3, H, W) in [0, 1]: the lower half or the middle is missing, a blur, a shift by
an eighth, a quarter turn, a quarter of the resolution, no colours."""


def damaged(name: str, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Damaged pictures uint8 (n, H, W, 3)."""
    floats = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (DAMAGES[name](floats) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def exchanged(
    rows: Sequence[Sequence[int]], rate: float, first: int, words: int, draw: np.random.Generator
) -> list[tuple[int, ...]]:
    """Rows of words of one length in which, at the same places of all, words are exchanged for the same others.

    Args:
        rows: such as the words of a damaged picture and of the picture.
        rate: share of the places from `first` on.
        first: places before it stay.
        words: of the vocabulary.
        draw: of places and words.
    """
    count = len(rows[0]) - first
    places = first + draw.permutation(count)[: int(rate * count)]
    others = draw.integers(words, size=len(places))
    changed = np.array(rows)
    changed[:, places] = others
    return [tuple(row) for row in changed.tolist()]
