"""What the ranks of a training share: sums with and without gradient, in a fixed order; one process needs none."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

Terms = dict[str, Tensor]
"""Scalars by name."""


def world_size() -> int:
    """Number of ranks; 1 where nothing is distributed."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def sum_over_ranks(x: Tensor) -> Tensor:
    """Sum of every rank's x; its gradient is the sum of the gradients, as every rank's loss depends on it."""
    return x if world_size() == 1 else _SumOverRanks.apply(x)


def mean_over_ranks(x: Tensor) -> Tensor:
    """Mean of every rank's x, with gradient."""
    return sum_over_ranks(x) / world_size()


def rank_weight(samples: int, whole: int | None) -> float:
    """What this rank's mean over its samples counts: the mean over ranks of so weighted means is that of the batch.

    Exactly 1 where every rank has as many, which is what `whole`, the samples of all ranks, means where it is None.
    """
    return 1.0 if whole is None else samples * world_size() / whole


def average_terms(terms: Terms, weight: float = 1.0) -> Terms:
    """Means over ranks, each with its `rank_weight`, of scalars by name in one all-reduce, without gradient."""
    if not terms:
        return {}
    values = weight * torch.stack([value.detach().float() for value in terms.values()])
    if world_size() > 1:
        torch.distributed.all_reduce(values)
        values = values / world_size()
    return dict(zip(terms, values.unbind(), strict=True))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """One flat all-reduce in the order of the parameters: bit-equal after a resume, unlike DDP's changing buckets."""
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        total = upstream.clone()
        torch.distributed.all_reduce(total)
        return total
