"""Codebooks that differ from the paper's frozen one: learned, projected, and searched by cosine.

What changes while training is a parameter; the table that is searched is a copy without gradient, which `refresh`
brings up to date after every step. After training `SPAE.frozen` makes the last one a table like any other.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spae.codebook.frozen import Codebook, table_statistics
from spae.codebook.precision import full_precision
from spae.config import SPAEConfig


class TrainableCodebook(Codebook):
    """A table that training moves; use LearnedCodebook or ProjectedCodebook."""

    def rows(self) -> Tensor:
        """The table (K, C), differentiable."""
        raise TypeError(f"{type(self).__name__} is the common part; use a codebook that says where its rows come from")

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the searched table up to date with the parameters."""
        self.embeddings.copy_(self.rows())
        for name, value in table_statistics(self.embeddings).items():
            self.get_buffer(name).copy_(value)


class LearnedCodebook(TrainableCodebook):
    """The baseline's codebook (facts 2.2): `size` rows of the given width, uniform with MaskGIT's variance 1 / size."""

    def __init__(self, size: int, width: int, temperature: float = 1.0) -> None:
        limit = math.sqrt(3 / size)
        rows = torch.empty(size, width).uniform_(-limit, limit)
        super().__init__(rows, temperature)
        self.weight = nn.Parameter(rows.clone())

    def rows(self) -> Tensor:
        """The parameter itself."""
        return self.weight

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings (*, C) of ids (*), with gradient to the rows."""
        return F.embedding(ids, self.weight)


class ProjectedCodebook(TrainableCodebook):
    """A learned linear map of the frozen rows (SimVQ; text-aligned tokenizer of Tar, 2025): all words move together.

    Args:
        source: the frozen rows (K, W).
        width: C; the map starts as the identity where C = W, else with orthonormal rows.
    """

    source: Tensor

    def __init__(self, source: Tensor, width: int, temperature: float = 1.0) -> None:
        projection = nn.Linear(source.shape[1], width, bias=False)
        if width == source.shape[1]:
            nn.init.eye_(projection.weight)
        else:
            nn.init.orthogonal_(projection.weight)
        super().__init__(projection(source).detach(), temperature)
        self.register_buffer("source", source.detach().float(), persistent=False)
        self.projection = projection

    def rows(self) -> Tensor:
        """Every word's projection."""
        return self._project(self.source)

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings (*, C) of ids (*), with gradient to the map."""
        return self._project(F.embedding(ids, self.source))

    def _project(self, rows: Tensor) -> Tensor:
        with full_precision(rows.device):
            return self.projection(rows)


class CosineCodebook(Codebook):
    """Search by cosine, as LQAE does: queries and rows at unit length; the embeddings themselves are the table's.

    Lengths are taken in float64, so that rows of one direction have one unit row, and their tie goes to the lowest id.
    A multiple whose numbers float32 has rounded is no longer of quite the same direction, and may win.
    """

    def __init__(self, embeddings: Tensor, temperature: float = 1.0) -> None:
        super().__init__(embeddings, temperature)
        self.unit = Codebook(_unit(self.embeddings))

    def nearest(self, queries: Tensor) -> Tensor:
        """Ids (N,) of the words with the highest cosine to queries (N, C), ties to the lowest id."""
        return self.unit.nearest(_unit(queries))


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(rows.double(), dim=1).float()


def make_codebook(config: SPAEConfig, embeddings: Tensor, temperature: float) -> Codebook:
    """The codebook that the configuration asks for, on the vocabulary's rows (K, W)."""
    if config.table == "learned":
        return LearnedCodebook(len(embeddings), config.embedding_width, temperature)
    if config.table == "projected":
        return ProjectedCodebook(embeddings, config.embedding_width, temperature)
    return {"euclidean": Codebook, "cosine": CosineCodebook}[config.search](embeddings, temperature)
