"""The frozen table of word embeddings in memory: exact nearest word, word cross-entropy, lookup.

Nothing of size rows x words outlives a chunk. What grows: the table with words x width, work with rows x words, memory
with neither (about 64 MB at a time). The table is a buffer: it gets no gradient and no optimizer ever sees it.
"""

import math

import torch
from torch import Tensor, nn

from spae.codebook.cross_entropy import WordCrossEntropy
from spae.codebook.search import Table, nearest_rows


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
        """Ids int64 (N,) of the words closest to queries (N, C): those of an fp64 search, ties to the lowest id.

        A query that is not finite has no nearest word and gets id 0.
        """
        if queries.ndim != 2 or queries.shape[1] != self.width or not queries.is_floating_point():
            raise ValueError(f"queries {tuple(queries.shape)} {queries.dtype} must be float (N, {self.width})")
        return nearest_rows(queries, Table(self.embeddings, self.half_squares))

    def cross_entropy(self, queries: Tensor, targets: Tensor) -> Tensor:
        """-log softmax(-|q - e|^2 / temperature)[target] for queries (N, C) and target ids (N,), one value a row (N,).

        Equation 7's summand. The gradient goes to the queries alone.
        """
        if queries.shape[:1] != targets.shape or queries.ndim != 2:
            raise ValueError(
                f"queries {tuple(queries.shape)} and targets {tuple(targets.shape)} must be (N, C) and (N,)"
            )
        table = Table(self.embeddings, self.half_squares)
        return WordCrossEntropy.apply(queries, targets, table, self.temperature)


def table_statistics(table: Tensor) -> dict[str, Tensor]:
    """What a codebook keeps of its table: summed in fp64, without a copy of the table in it."""
    squares = torch.linalg.vector_norm(table, dim=1, dtype=torch.float64).square()
    mean = table.mean(0, dtype=torch.float64)
    radius_squared = squares.mean() - mean.square().sum()
    return {"half_squares": (squares / 2).float(), "mean": mean.float(), "radius_squared": radius_squared.float()}


def default_temperature(words: int) -> float:
    """1 / ln K: on a word the softmax is sure, at the table's mean it is flat (facts 8.2)."""
    return 1 / math.log(max(words, 3))
