"""Cross-entropy over words at minus their squared distance, as a linear cross-entropy with a bias.

-|q - e|^2 = 2 q.e - |e|^2 - |q|^2, and |q|^2 leaves the softmax. The table is frozen, so dL/dq = 2 / tau
(sum_k p_k e_k - e_target) is formed in the forward pass, block by block of rows: scores are computed once, never kept.

What grows: work with rows x words, memory with neither (64 MB at a time, on a GPU 128).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from spae.codebook.precision import precision_of_losses
from spae.codebook.products import biased_product, transposed_product
from spae.codebook.screening import has_kernels
from spae.codebook.search import Table

_BLOCK_SCORES = 16_777_216  # scores of one block of rows: 64 MB in fp32
_FUSED_SCORES = 33_554_432  # 512 rows of 65,536 words: fewer leave a GPU's products waiting for the table


class WordCrossEntropy(Function):
    """-log softmax(-|q - e|^2 / temperature)[target], (N,), for queries (N, C), targets (N,) and a table.

    In float32; on CUDA inside an autocast region in tf32.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, targets: Tensor, table: Table, temperature: float) -> Tensor:
        scale, fused = 2 / temperature, has_kernels(queries.device)
        scaled = Table(table.rows, table.half_squares * scale)
        losses = queries.new_empty(len(queries), dtype=torch.float32)
        gradient = torch.empty_like(queries, dtype=torch.float32) if queries.requires_grad else None
        rows = max(1, (_FUSED_SCORES if fused else _BLOCK_SCORES) // len(table.rows))
        buffer = table.rows.new_empty(len(table.rows) * min(rows, len(queries)))
        of_block = _by_kernel if fused else _by_columns
        for start in range(0, len(queries), rows):
            block = slice(start, start + rows)
            out = None if gradient is None else gradient[block]
            losses[block] = of_block(queries[block].float() * scale, targets[block], scaled, buffer, out)
        if gradient is not None:
            ctx.save_for_backward(gradient.mul_(scale))
        ctx.dtype = queries.dtype
        return losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream[:, None]).to(ctx.dtype), None, None, None


def _by_columns(queries: Tensor, targets: Tensor, table: Table, buffer: Tensor, gradient: Tensor | None) -> Tensor:
    """Losses (n,) of scaled queries (n, C), and their gradient / scale where one is asked for; a column a query."""
    scores = buffer[: len(table.rows) * len(queries)].view(len(table.rows), len(queries))
    biased_product(table.rows, queries, table.half_squares, scores)
    chosen = scores[targets, torch.arange(len(queries), device=queries.device)]
    normaliser, total = _exponentiate(scores)
    if gradient is not None:
        mean = transposed_product(scores, table.rows, gradient)
        mean.div_(total[:, None]).sub_(table.rows[targets])
    return normaliser + total.log() - chosen


def _by_kernel(queries: Tensor, targets: Tensor, table: Table, buffer: Tensor, gradient: Tensor | None) -> Tensor:
    """As `_by_columns`, a row a query: between the two products a kernel passes over the scores once."""
    from spae.codebook.kernels import softmax_and_losses

    scores = buffer[: len(table.rows) * len(queries)].view(len(queries), len(table.rows))
    losses = queries.new_empty(len(queries))
    with precision_of_losses(queries.device):
        torch.mm(queries, table.rows.T, out=scores)
        softmax_and_losses(scores, table.half_squares, targets, losses)
        if gradient is not None:
            torch.mm(scores, table.rows, out=gradient).sub_(table.rows[targets])
    return losses


def _exponentiate(scores: Tensor) -> tuple[Tensor, Tensor]:
    """exp(scores - highest) in place, scores (K, n); the highest (n,) and the sum of the exponentials (n,)."""
    if scores.device.type == "cpu":  # torch's threads would wait actively and slow the next product down
        values = scores.numpy()
        highest = values.max(0)
        np.subtract(values, highest, out=values)
        np.exp(values, out=values)
        return torch.from_numpy(highest), torch.from_numpy(values.sum(0))
    highest_score = scores.amax(0)
    scores.sub_(highest_score).exp_()
    return highest_score, scores.sum(0)
