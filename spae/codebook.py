"""The frozen table of word embeddings in memory: exact nearest word, word cross-entropy, lookup.

Nothing of size rows x words outlives a chunk. What grows: the table with words x width, work with rows x words, memory
with neither (about 64 MB at a time). The table is a buffer: it gets no gradient and no optimizer ever sees it.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spae.products import biased_product, transposed_product
from spae.search import Table, nearest_rows

_BLOCK_SCORES = 16_777_216  # scores of one block of rows: 64 MB in fp32


class Codebook(nn.Module):
    """K frozen word embeddings of width C.

    Args:
        embeddings: (K, C) float, the table in use; finite.
        temperature: sharpness tau of softmax(-|q - e|^2 / tau); 1 / ln K suits a centred, unit-norm table (facts 8.2).
    """

    embeddings: Tensor
    half_squares: Tensor
    """Half of |e|^2, (K,)."""
    mean: Tensor
    """Of the words, (C,)."""
    radius_squared: Tensor
    """Mean squared distance of the words from their mean, a scalar (R^2 of facts 8.7)."""

    def __init__(self, embeddings: Tensor, temperature: float = 1.0) -> None:
        super().__init__()
        if embeddings.ndim != 2 or not embeddings.is_floating_point():
            raise ValueError(f"embeddings of shape {tuple(embeddings.shape)}, {embeddings.dtype} must be (K, C) float")
        if not bool(torch.isfinite(embeddings).all()):
            raise ValueError("embeddings hold NaN or infinity; rebuild the vocabulary, which drops such rows")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature} must be positive")
        self.temperature = temperature
        table = embeddings.detach().float().contiguous()
        self.register_buffer("embeddings", table, persistent=False)
        for name, value in table_statistics(table).items():
            self.register_buffer(name, value, persistent=False)

    def __len__(self) -> int:
        """Number of words K."""
        return self.embeddings.shape[0]

    @property
    def width(self) -> int:
        """Width C of an embedding."""
        return self.embeddings.shape[1]

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings (*, C) of word ids (*)."""
        return nn.functional.embedding(ids, self.embeddings)

    @torch.no_grad()
    def nearest(self, queries: Tensor) -> Tensor:
        """Ids int64 (N,) of the words closest to queries (N, C): those of an fp64 search, ties to the lowest id."""
        if queries.ndim != 2 or queries.shape[1] != self.width:
            raise ValueError(f"queries of shape {tuple(queries.shape)} must be (N, {self.width})")
        return nearest_rows(queries, Table(self.embeddings, self.half_squares))

    def cross_entropy(self, queries: Tensor, targets: Tensor) -> Tensor:
        """-log softmax(-|q - e|^2 / temperature)[target] for queries (N, C) and target ids (N,), one value a row (N,).

        Equation 7's summand. The gradient goes to the queries alone.
        """
        if queries.shape[:1] != targets.shape or queries.ndim != 2:
            raise ValueError(
                f"queries {tuple(queries.shape)} and targets {tuple(targets.shape)} must be (N, C) and (N,)"
            )
        return _WordCrossEntropy.apply(queries, targets, self)


class _WordCrossEntropy(torch.autograd.Function):
    """Linear cross-entropy with a bias: -|q - e|^2 = 2 q.e - |e|^2 - |q|^2, and |q|^2 leaves the softmax.

    dL/dq = 2 / tau (sum_k p_k e_k - e_target) is formed in the forward pass, block by block of rows, so that the
    scores are computed once and never kept.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, targets: Tensor, codebook: Codebook) -> Tensor:
        scale = 2 / codebook.temperature
        losses = queries.new_empty(len(queries), dtype=torch.float32)
        gradient = torch.empty_like(queries, dtype=torch.float32) if queries.requires_grad else None
        rows = max(1, _BLOCK_SCORES // len(codebook))
        buffer = codebook.embeddings.new_empty(len(codebook) * min(rows, len(queries)))
        for start in range(0, len(queries), rows):
            block = slice(start, start + rows)
            part, target = queries[block].float() * scale, targets[block]
            scores = buffer[: len(codebook) * len(part)].view(len(codebook), len(part))
            biased_product(codebook.embeddings, part, codebook.half_squares * scale, scores)
            chosen = scores[target, torch.arange(len(part), device=part.device)]
            normaliser, total = _exponentiate(scores)
            losses[block] = normaliser + total.log() - chosen
            if gradient is not None:
                mean = transposed_product(scores, codebook.embeddings, gradient[block])
                mean.div_(total[:, None]).sub_(codebook.embeddings[target])
        if gradient is not None:
            ctx.save_for_backward(gradient.mul_(scale))
        ctx.dtype = queries.dtype
        return losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream[:, None]).to(ctx.dtype), None, None


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


def table_statistics(table: Tensor) -> dict[str, Tensor]:
    """What a codebook keeps of its table: summed in fp64, without a copy of the table in it."""
    squares = torch.linalg.vector_norm(table, dim=1, dtype=torch.float64).square()
    mean = table.mean(0, dtype=torch.float64)
    radius_squared = squares.mean() - mean.square().sum()
    return {"half_squares": (squares / 2).float(), "mean": mean.float(), "radius_squared": radius_squared.float()}


def default_temperature(words: int) -> float:
    """1 / ln K: on a word the softmax is sure, at the table's mean it is flat (facts 8.2)."""
    return 1 / math.log(max(words, 3))
