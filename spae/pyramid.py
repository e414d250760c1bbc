"""TokenPyramid and the arithmetic of its grids (equation 1).

Positions are counted from 0 in raster order of the latent grid. A layer of side n in a latent of side h takes every
r-th position, r = h / n, beginning at r // 2: the layers of 1, 2, 4 and 8 in 16 share no position, so that they can be
quantized together (facts 1, equation 1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spae.config import Grid, check_divides


@dataclass(frozen=True, eq=False)
class TokenPyramid:
    """Token ids of a batch, coarse to fine: `layers[l]` is int64 (B, *grid) with ids of vocabulary rows.

    Two are equal where their grids and all ids are.
    """

    layers: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("a TokenPyramid needs at least one layer")
        for number, layer in enumerate(self.layers, 1):
            if layer.dtype != torch.int64:
                raise ValueError(f"layer {number} is {layer.dtype}; token ids are int64")
            if layer.shape[0] != self.layers[0].shape[0] or layer.ndim != self.layers[0].ndim or layer.ndim < 2:
                shapes = [tuple(layer.shape) for layer in self.layers]
                raise ValueError(f"layers of shapes {shapes} are no pyramid; they are (B, *grid) with one B")

    def __len__(self) -> int:
        """Number of images or clips."""
        return int(self.layers[0].shape[0])

    @property
    def grids(self) -> tuple[Grid, ...]:
        """Grid of each layer."""
        return tuple(tuple(layer.shape[1:]) for layer in self.layers)

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.layers)

    def prefix(self, layers: int) -> "TokenPyramid":
        """The first layers only, 1 to depth."""
        return TokenPyramid(self.layers[: check_layers(layers, self.depth)])

    def flatten(self, layers: int | None = None) -> Tensor:
        """Ids (B, n) layer by layer, raster order inside a layer, of the first layers or of all."""
        kept = self.layers[: check_layers(layers, self.depth)]
        return torch.cat([layer.flatten(1) for layer in kept], dim=1)

    @classmethod
    def from_flat(cls, ids: Tensor, grids: Sequence[Grid]) -> "TokenPyramid":
        """Undo `flatten`: ids (B, n) and the grids of the layers they hold."""
        sizes = [math.prod(grid) for grid in grids]
        if ids.ndim != 2 or ids.shape[1] != sum(sizes):
            raise ValueError(
                f"ids of shape {tuple(ids.shape)} do not fill grids {tuple(grids)}: they hold {sum(sizes)}"
            )
        parts = ids.long().split(sizes, dim=1)
        return cls(tuple(part.reshape(-1, *grid) for part, grid in zip(parts, grids, strict=True)))

    @classmethod
    def from_arrays(cls, layers: Sequence[NDArray[np.integer[Any]]]) -> "TokenPyramid":
        """Integer arrays (B, *grid), as a token table holds them."""
        return cls(tuple(torch.from_numpy(layer.astype(np.int64)) for layer in layers))

    def to_arrays(self) -> tuple[NDArray[np.int32], ...]:
        """Undo `from_arrays`: int32 (B, *grid)."""
        return tuple(layer.to("cpu", torch.int32).numpy() for layer in self.layers)

    def to(self, device: torch.device | str) -> "TokenPyramid":
        """The same ids on another device."""
        return TokenPyramid(tuple(layer.to(device) for layer in self.layers))

    def __getitem__(self, samples: int | slice) -> "TokenPyramid":
        """The pyramids of some samples; of one, a batch of one. IndexError for a number beyond the batch."""
        if isinstance(samples, int):
            number = range(len(self))[samples]
            samples = slice(number, number + 1)
        return TokenPyramid(tuple(layer[samples] for layer in self.layers))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TokenPyramid):
            return NotImplemented
        pairs = zip(self.layers, other.layers, strict=False)
        return self.depth == other.depth and all(torch.equal(one, two.to(one.device)) for one, two in pairs)

    __hash__ = None  # type: ignore[assignment]  # tensors can change


def check_layers(layers: int | None, depth: int) -> int:
    """How many layers are meant: all for None; ValueError outside 1 to depth."""
    if layers is None:
        return depth
    if not 1 <= layers <= depth:
        raise ValueError(f"layers={layers} is outside 1 to {depth}")
    return layers


def positions(grid: Grid, latent_grid: Grid) -> Tensor:
    """Raster positions int64 (n,) of a layer's tokens in the latent grid (equation 1)."""
    check_divides(grid, latent_grid)
    axes = [torch.arange(n) * (h // n) + (h // n) // 2 for n, h in zip(grid, latent_grid, strict=True)]
    raster = torch.zeros(1, dtype=torch.int64)
    for axis, side in zip(axes, latent_grid, strict=True):
        raster = (raster[:, None] * side + axis).flatten()
    return raster


def disjoint_groups(grids: Sequence[Grid], latent_grid: Grid) -> list[list[int]]:
    """Consecutive layers without a common position, which one search can quantize together.

    The paper's pyramid gives [[0, 1, 2, 3], [4], [5]]: three searches for six layers.
    """
    groups: list[list[int]] = []
    taken: set[int] = set()
    for layer, grid in enumerate(grids):
        own = set(positions(grid, latent_grid).tolist())
        if groups and not taken & own:
            groups[-1].append(layer)
            taken |= own
        else:
            groups.append([layer])
            taken = own
    return groups


def nearest_covered(grids: Sequence[Grid], latent_grid: Grid) -> Tensor:
    """For every raster position, the nearest one that the grids cover, int64 (P,); ties to the lowest."""
    covered = torch.cat([positions(grid, latent_grid) for grid in grids]).unique()
    axes = torch.meshgrid(*[torch.arange(side) for side in latent_grid], indexing="ij")
    points = torch.stack([axis.flatten() for axis in axes], dim=1)  # (P, dimensions)
    squared = (points[:, None] - points[covered][None]).square().sum(-1)  # (P, covered), small: at most 1024 x 1024
    return covered[squared.argmin(dim=1)]
