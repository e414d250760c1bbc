"""The formulas of a training step as one would first write them: the reference of the benchmarks, and of their tests.

Every layer searches the whole grid and keeps what its mask tells, distances and softmax are whole matrices, targets are
drawn with one random number a word. The networks are the same, in torch's usual layout.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spae.model import SPAE, unit_pixels
from spae.pyramid import positions


@dataclass(frozen=True)
class PlainPyramid:
    """Of each layer z_l and the estimate at every position (B, P, C), ids (B, P), and where the layer is (P,)."""

    inputs: list[Tensor]
    estimates: list[Tensor]
    ids: list[Tensor]
    masks: list[Tensor]


def quantize(model: SPAE, latents: Tensor) -> PlainPyramid:
    """Equations 1 to 3 on latents (B, C, *S)."""
    table, z = model.codebook.embeddings, latents.flatten(2).transpose(1, 2)
    total, count = torch.zeros_like(z), z.new_zeros(z.shape[1], 1)
    found = PlainPyramid([], [], [], [])
    for grid in model.config.grids:
        where = positions(grid, model.config.grids[-1])
        mask = z.new_zeros(z.shape[1]).index_fill(0, where.to(z.device), 1.0)
        z_l = (count + 1) * z - total.detach()
        ids = torch.cdist(z_l.detach().flatten(0, 1), table).argmin(1).view(len(z), -1)
        total, count = total + mask[:, None] * table[ids], count + mask[:, None]
        found.inputs.append(z_l)
        found.estimates.append(total / count.clamp_min(1))
        found.ids.append(ids)
        found.masks.append(mask > 0)
    return found


def encode(model: SPAE, pixels: Tensor) -> Tensor:
    """Ids (B, words) layer by layer."""
    with torch.no_grad():
        found = quantize(model, model.latents(pixels))
    return torch.cat([ids[:, mask] for ids, mask in zip(found.ids, found.masks, strict=True)], 1)


def sample_targets(similarities: Tensor, threshold: float, count: int) -> Tensor:
    """Ids (B, count), uniform over the words of each image's pool (equation 4): a random number for every word."""
    pools = (similarities >= threshold).float()
    return torch.multinomial(pools, count, replacement=True)


def loss(model: SPAE, pixels: Tensor, similarities: Tensor, thresholds: tuple[float, ...]) -> Tensor:
    """Equation 9 with pixel error, commitment at its default weight, and the semantic loss."""
    table, temperature = model.codebook.embeddings, model.codebook.temperature
    z = model.latents(pixels)
    found = quantize(model, z)
    flat = z.flatten(2).transpose(1, 2)
    straight = flat + (found.estimates[-1] - flat).detach()
    rebuilt = model.reconstruct(straight.transpose(1, 2).unflatten(2, z.shape[2:]))
    covered, commitment = torch.zeros_like(found.masks[0]), 0.0
    for estimate, mask in zip(found.estimates, found.masks, strict=True):
        covered = covered | mask
        commitment = commitment + (flat - estimate.detach()).square().sum(2)[:, covered].mean()
    radius_squared = (table - table.mean(0)).square().sum(1).mean()
    appearance = F.mse_loss(rebuilt, unit_pixels(pixels)) + 0.01 * commitment / radius_squared
    semantic = []
    for threshold, inputs, mask in zip(thresholds, found.inputs, found.masks, strict=False):
        targets = sample_targets(similarities, threshold, int(mask.sum()))
        logits = -torch.cdist(inputs[:, mask].flatten(0, 1), table).square() / temperature
        semantic.append(F.cross_entropy(logits, targets.flatten()))
    mean = torch.stack(semantic).mean()
    floor = 0.05 * torch.log(torch.tensor(float(len(table))))
    return appearance + (appearance / torch.maximum(mean, floor)).detach() * mean


def step(
    model: SPAE, optimizer: torch.optim.Optimizer, pixels: Tensor, similarities: Tensor, thresholds: tuple[float, ...]
) -> Tensor:
    """One optimisation step; the loss."""
    optimizer.zero_grad()
    total = loss(model.train(), pixels, similarities, thresholds)
    total.backward()
    optimizer.step()
    return total.detach()


def nearest(queries: Tensor, table: Tensor) -> Tensor:
    """Ids (N,) of the nearest rows by fp64 scores, ties to the lowest id, a chunk of queries and words at a time."""
    return torch.cat([_nearest(block.double(), table) for block in queries.split(16_384)])


def _nearest(queries: Tensor, table: Tensor) -> Tensor:
    best = queries.new_full((len(queries),), -torch.inf)
    ids = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for start in range(0, len(table), 4_096):
        words = table[start : start + 4_096].double()
        score, index = (queries @ words.T - words.square().sum(1) / 2).max(1)
        ids = torch.where(score > best, index + start, ids)
        best = torch.maximum(best, score)
    return ids


def word_cross_entropy(queries: Tensor, targets: Tensor, table: Tensor, temperature: float) -> Tensor:
    """Equation 7's summand (N,)."""
    return F.cross_entropy(-torch.cdist(queries, table).square() / temperature, targets, reduction="none")
