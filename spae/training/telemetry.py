"""What a step tells beside its losses: the latents' size, repeated words, gradients, and which samples to blame."""

from collections.abc import Sequence

import torch
from torch import Tensor

from spae.collectives import Terms
from spae.model import SPAE
from spae.quantizers import Quantized


def latent_radii(model: SPAE, z: Tensor) -> Terms:
    """Root mean square of |z| over that of the table, at each layer's positions; healthy between 0.5 and 2."""
    centre = model.codebook.mean.reshape(-1, *[1] * (z.ndim - 2))
    squared = (z.detach() - centre).square().sum(1).flatten(1) / model.codebook.radius_squared
    where = (model.quantizer.layer_positions(layer) for layer in range(model.depth))
    return {f"latent_radius/{number}": squared[:, one].mean().sqrt() for number, one in enumerate(where, 1)}


def repeats(quantized: Quantized) -> Terms:
    """Share of positions at which the last layer repeats the word of the one before, where their grids are equal."""
    tokens = quantized.tokens
    if tokens.depth < 2 or tokens.grids[-1] != tokens.grids[-2]:
        return {}
    return {"repeats": (tokens.layers[-1] == tokens.layers[-2]).float().mean()}


def gradient_norms(z: Tensor, semantic: Tensor | None) -> Terms:
    """Norm of the gradient at the latents, (B, C, *S), by the part of the loss that it comes from (facts 8.9)."""
    total = z.grad if z.grad is not None else torch.zeros_like(z)
    if semantic is None:
        return {"latent_gradient/appearance": total.norm()}
    return {
        "latent_gradient/appearance": (total - semantic).norm(),
        "latent_gradient/semantic": semantic.norm(),
    }


def suspects(keys: Sequence[str], finite: Tensor, culprits: float) -> tuple[str, ...]:
    """Which of a rank's samples may have made a loss that is not finite.

    Args:
        keys: of the rank's B samples.
        finite: bool (B,), whether a sample's own latents were finite, before statistics mixed the batch.
        culprits: how many were not, over all ranks or as their mean; 0 leaves every sample in doubt.
    """
    if not culprits:
        return tuple(keys)
    return tuple(key for key, sound in zip(keys, finite.tolist(), strict=True) if not sound)
