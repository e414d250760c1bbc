"""Quantizers: latents to pyramids of words and back (equations 1 to 3).

One streaming loop serves the family; a member says what a layer is given and how embeddings are put together:

    Pyramid (SAQ)   z_l = z + sum_i (z - e_i)     estimate = mean of the e_i      (equations 2, 3)
    Residual (RQ)   z_l = z - sum_i e_i           estimate = sum of the e_i
    Vector (VQ)     one layer over the whole grid, where the two agree

Sums run over the earlier layers that hold a token at the position. Only positions of a layer are searched, and layers
that share no position are searched together: three searches for the paper's six layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spae.codebook.frozen import Codebook
from spae.config import Grid, check_grids
from spae.pyramid import TokenPyramid, check_layers, disjoint_groups, nearest_covered, positions


@dataclass(frozen=True)
class Quantized:
    """What quantizing latents (B, C, *S) gives.

    Attributes:
        latents: (B, C, *S), the decoder's input; its gradient is that of the encoder's latents (straight through).
        tokens: the pyramid of word ids.
        layer_inputs: z_l of each layer at its positions, (B, n_l, C), differentiable in the latents.
        layer_estimates: the estimate after each layer at its positions, (B, n_l, C), differentiable in the table where
            that is trained.
    """

    latents: Tensor
    tokens: TokenPyramid
    layer_inputs: tuple[Tensor, ...]
    layer_estimates: tuple[Tensor, ...]


class Quantizer(nn.Module):
    """The streaming loop; use PyramidQuantizer, ResidualQuantizer or VectorQuantizer.

    Args:
        codebook: the frozen words.
        grids: grid of each layer, coarse to fine; the last one is the latent grid.
    """

    def __init__(self, codebook: Codebook, grids: Sequence[Grid]) -> None:
        super().__init__()
        self.codebook = codebook
        self.grids = tuple(tuple(grid) for grid in grids)
        self.latent_grid = self.grids[-1]
        check_grids(self.grids, self.latent_grid)
        self.groups = disjoint_groups(self.grids, self.latent_grid)
        for layer, grid in enumerate(self.grids):
            self.register_buffer(f"positions_{layer}", positions(grid, self.latent_grid), persistent=False)
            sources = nearest_covered(self.grids[: layer + 1], self.latent_grid)
            self.register_buffer(f"sources_{layer}", sources, persistent=False)

    def layer_input(self, latents: Tensor, total: Tensor, count: Tensor) -> Tensor:
        """z_l from z, the sum and the number of the embeddings so far, all at the layer's positions."""
        raise TypeError(f"{type(self).__name__} is the common loop; use a quantizer that says how layers add up")

    def combine(self, total: Tensor, count: Tensor) -> Tensor:
        """The estimate from the sum and the number of embeddings, count at least 1."""
        raise TypeError(f"{type(self).__name__} is the common loop; use a quantizer that says how layers add up")

    def layer_positions(self, layer: int) -> Tensor:
        """Raster positions (n_l,) of a layer in the latent grid."""
        return self.get_buffer(f"positions_{layer}")

    def forward(self, latents: Tensor, layers: int | None = None, searched: int | None = None) -> Quantized:
        """Quantize (B, C, *S); with `layers` the decoder's input is built from the first layers only.

        All layers are searched, or the first `searched` alone, whose words are the same then, since no layer depends on
        a later one. ValueError where S is not the latent grid.
        """
        if tuple(latents.shape[2:]) != self.latent_grid or latents.shape[1] != self.codebook.width:
            expected = (self.codebook.width, *self.latent_grid)
            raise ValueError(f"latents of shape {tuple(latents.shape)} must be (B, {', '.join(map(str, expected))})")
        depth = check_layers(searched, len(self.grids))
        kept = check_layers(layers, depth)
        z = latents.flatten(2).transpose(1, 2)  # (B, P, C)
        z = z if z.dtype == torch.float64 else z.float()
        total, count = torch.zeros_like(z), z.new_zeros(z.shape[1], 1)
        ids: list[Tensor] = []
        inputs: list[Tensor] = []
        estimates: list[Tensor] = []
        estimate = torch.zeros_like(z)
        for group in filter(None, ([layer for layer in group if layer < depth] for group in self.groups)):
            where = [self.layer_positions(layer) for layer in group]
            together = torch.cat(where)
            z_group = self.layer_input(z[:, together], total[:, together].detach(), count[together])
            chosen = self.codebook.nearest(z_group.detach().flatten(0, 1)).view(len(z), len(together))
            total = total.index_add(1, together, self.codebook.embed(chosen).to(z.dtype))
            count = count.index_add(0, together, count.new_ones(len(together), 1))
            after = self.combine(total[:, together], count[together])
            sizes = [len(one) for one in where]
            ids += chosen.split(sizes, 1)
            inputs += z_group.split(sizes, 1)
            estimates += after.split(sizes, 1)
        for layer in range(kept):
            estimate = estimate.index_copy(1, self.layer_positions(layer), estimates[layer])
        straight = (z + (estimate - z).detach())[:, self.get_buffer(f"sources_{kept - 1}")]
        return Quantized(
            latents=self._to_grid(straight),
            tokens=self._pyramid(ids),
            layer_inputs=tuple(inputs),
            layer_estimates=tuple(estimates),
        )

    def embed(self, tokens: TokenPyramid) -> Tensor:
        """Latents (B, C, *S) that the tokens of the first layers, or of all, stand for.

        A position without a token takes the estimate of the nearest one that has some (facts 8.6).
        """
        if tokens.grids != self.grids[: tokens.depth]:
            raise ValueError(f"tokens have grids {tokens.grids}; this model's first layers are {self.grids}")
        size = len(self.get_buffer("sources_0"))
        total = self.codebook.embeddings.new_zeros(len(tokens), size, self.codebook.width)
        count = total.new_zeros(size, 1)
        for layer, ids in enumerate(tokens.layers):
            where = self.layer_positions(layer)
            total = total.index_add(1, where, self.codebook.embed(ids.flatten(1)))
            count = count.index_add(0, where, count.new_ones(len(where), 1))
        sources = self.get_buffer(f"sources_{tokens.depth - 1}")
        return self._to_grid(self.combine(total[:, sources], count[sources]))

    def _to_grid(self, rows: Tensor) -> Tensor:
        return rows.transpose(1, 2).unflatten(2, self.latent_grid)  # (B, P, C) -> (B, C, *S)

    def _pyramid(self, ids: list[Tensor]) -> TokenPyramid:
        return TokenPyramid(tuple(layer.unflatten(1, grid) for layer, grid in zip(ids, self.grids, strict=False)))


class PyramidQuantizer(Quantizer):
    """Streaming average quantization (equations 2 and 3): the mean of a position's embeddings approaches its latent."""

    def layer_input(self, latents: Tensor, total: Tensor, count: Tensor) -> Tensor:
        """z + sum_i (z - e_i) = (count + 1) z - total."""
        return (count + 1) * latents - total

    def combine(self, total: Tensor, count: Tensor) -> Tensor:
        """The mean of the embeddings."""
        return total / count


class ResidualQuantizer(Quantizer):
    """Residual quantization, the ablation's alternative: the sum of a position's embeddings approaches its latent."""

    def layer_input(self, latents: Tensor, total: Tensor, count: Tensor) -> Tensor:
        """z - sum_i e_i."""
        return latents - total

    def combine(self, total: Tensor, count: Tensor) -> Tensor:
        """The sum of the embeddings."""
        return total


class VectorQuantizer(PyramidQuantizer):
    """Plain vector quantization: one layer over the whole latent grid."""

    def __init__(self, codebook: Codebook, grids: Sequence[Grid]) -> None:
        if len(grids) != 1:
            raise ValueError(f"a VectorQuantizer has one grid, not {len(grids)}; use PyramidQuantizer for layers")
        super().__init__(codebook, grids)


QUANTIZERS: dict[str, type[Quantizer]] = {
    "pyramid": PyramidQuantizer,
    "residual": ResidualQuantizer,
    "vector": VectorQuantizer,
}
"""By the name that a configuration gives."""


def make_quantizer(name: str, codebook: Codebook, grids: Sequence[Grid]) -> Quantizer:
    """The quantizer of this name; ValueError for one that is none."""
    if name not in QUANTIZERS:
        raise ValueError(f"quantizer={name!r} must be one of {', '.join(QUANTIZERS)}")
    return QUANTIZERS[name](codebook, grids)
