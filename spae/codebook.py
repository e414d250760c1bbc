"""The frozen table of word embeddings in memory: exact nearest word, word cross-entropy, lookup.

Nothing of size rows x words outlives a chunk. What grows: the table with words x width, work with rows x words, memory
with neither (about 64 MB at a time). The table is a buffer: it gets no gradient and no optimizer ever sees it.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

_CHUNK_SCORES = 16_777_216  # scores of one chunk: 64 MB in fp32
_CHUNK_WORDS = 8_192  # words of one search chunk; 8,192 ran as fast as all 65,536 at once, with an eighth of the memory
_CANDIDATES = 8  # words kept for the fp64 ranking; eight always held the true one on clustered rows (design 6)


class Codebook(nn.Module):
    """K frozen word embeddings of width C.

    Args:
        embeddings: (K, C) float, the table in use; finite.
        temperature: sharpness tau of softmax(-|q - e|^2 / tau); 1 / ln K suits a centred, unit-norm table (facts 8.2).
    """

    embeddings: Tensor
    half_squares: Tensor

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
        self.register_buffer("half_squares", (table.double().square().sum(1) / 2).float(), persistent=False)

    def __len__(self) -> int:
        """Number of words K."""
        return self.embeddings.shape[0]

    @property
    def width(self) -> int:
        """Width C of an embedding."""
        return self.embeddings.shape[1]

    @property
    def radius_squared(self) -> Tensor:
        """Mean squared distance of the words from the table's mean, a scalar (R^2 of facts 8.7)."""
        return (self.embeddings - self.embeddings.mean(0)).square().sum(1).mean()

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings (*, C) of word ids (*)."""
        return nn.functional.embedding(ids, self.embeddings)

    @torch.no_grad()
    def nearest(self, queries: Tensor) -> Tensor:
        """Ids int64 (N,) of the words closest to queries (N, C): those of an fp64 search, ties to the lowest id.

        Words are screened in fp32, then in fp64 where that does not separate them; those within the screening's error
        bound of the best are ranked by their fp64 distance, so that equal rows tie exactly.
        """
        if queries.ndim != 2 or queries.shape[1] != self.width:
            raise ValueError(f"queries of shape {tuple(queries.shape)} must be (N, {self.width})")
        ids = torch.empty(len(queries), dtype=torch.int64, device=queries.device)
        block = max(1, _CHUNK_SCORES // max(_CHUNK_WORDS, 8 * self.width))
        for start in range(0, len(queries), block):
            ids[start : start + block] = self._nearest_block(queries[start : start + block])
        return ids

    def _nearest_block(self, queries: Tensor) -> Tensor:
        ids, settled = self._best_of_two(queries.float())
        for precision in (torch.float32, torch.float64, None):
            open_rows = (~settled).nonzero()[:, 0]
            if not len(open_rows):
                break
            rows = queries[open_rows]
            if precision is None:
                ids[open_rows] = self._search_exhaustively(rows)
            else:
                ids[open_rows], settled[open_rows] = self._screen(rows.to(precision))
        return ids

    def _best_of_two(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Best ids (n,) where the second best is farther than rounding can tell, and whether it is: nearly always."""
        best = queries.new_full((len(queries),), -torch.inf)
        second, ids = best.clone(), torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
        for start in range(0, len(self), _CHUNK_WORDS):
            chunk = self._scores(queries, start)
            first, index = chunk.max(1)
            runner_up = chunk.scatter_(1, index[:, None], -torch.inf).amax(1)
            second = torch.maximum(torch.minimum(best, first), torch.maximum(second, runner_up))
            ids = torch.where(first > best, index + start, ids)
            best = torch.maximum(best, first)
        return ids, best - second > 2 * self._score_error(queries)

    def _scores(self, queries: Tensor, start: int) -> Tensor:
        """q.e - |e|^2 / 2, highest where nearest, of a chunk of words, in the queries' precision."""
        words = self.embeddings[start : start + _CHUNK_WORDS].to(queries.dtype)
        with full_precision(queries.device):
            return torch.addmm(self._half_squares(start, queries.dtype), queries, words.T, beta=-1)

    def _screen(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Best ids (n,) of the candidates within reach of the best score, and whether none is beyond them."""
        count = min(_CANDIDATES, len(self))
        scores = queries.new_empty(len(queries), 0)
        candidates = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
        for start in range(0, len(self), _CHUNK_WORDS):
            best, index = self._scores(queries, start).topk(min(count, _CHUNK_WORDS, len(self) - start), dim=1)
            scores = torch.cat([scores, best], 1)
            candidates = torch.cat([candidates, index + start], 1)
        scores, order = scores.topk(count, dim=1)
        candidates = candidates.gather(1, order)
        settled = torch.isfinite(scores).all(1)
        if count < len(self):
            settled &= scores[:, 0] - scores[:, -1] > 2 * self._score_error(queries)
        return self._rank(queries, candidates), settled

    def _half_squares(self, start: int, dtype: torch.dtype) -> Tensor:
        if dtype == torch.float32:
            return self.half_squares[start : start + _CHUNK_WORDS]
        return self.embeddings[start : start + _CHUNK_WORDS].to(dtype).square().sum(1) / 2

    def _score_error(self, queries: Tensor) -> Tensor:
        """Bound (n,) on a score's rounding: width x eps x |q| |e| for the product, eps |e|^2 for the bias."""
        epsilon = torch.finfo(queries.dtype).eps
        longest = (2 * self.half_squares.max().to(queries.dtype)).sqrt()
        return epsilon * ((self.width + 2) * queries.norm(dim=1) * longest + longest.square())

    def _rank(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Of candidates (n, m) the nearest (n,) by fp64 distance, ties to the lowest id."""
        candidates = candidates.sort(dim=1).values
        differences = queries.double()[:, None] - self.embeddings[candidates].double()
        nearest = differences.square().sum(-1).argmin(1, keepdim=True)
        return candidates.gather(1, nearest)[:, 0]

    def _search_exhaustively(self, queries: Tensor) -> Tensor:
        """Rows whose eight best words lie within rounding, such as copies: every word by fp64 distance."""
        best = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
        step = max(1, _CHUNK_SCORES // (2 * self.width))
        for row, query in enumerate(queries.double()):
            distances = torch.cat([(query - part.double()).square().sum(1) for part in self.embeddings.split(step)])
            best[row] = distances.argmin()
        return best

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

    dL/dq = 2 / tau (sum_k p_k e_k - e_target) is formed in the forward pass, chunk by chunk of rows, so that the
    scores are computed once and never kept.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, targets: Tensor, codebook: Codebook) -> Tensor:
        table, scale = codebook.embeddings, 2 / codebook.temperature
        losses = queries.new_empty(len(queries), dtype=torch.float32)
        gradient = torch.empty_like(queries, dtype=torch.float32) if queries.requires_grad else None
        rows = max(1, _CHUNK_SCORES // len(codebook))
        with full_precision(queries.device):
            for start in range(0, len(queries), rows):
                part = queries[start : start + rows].float()
                target = targets[start : start + rows, None]
                logits = torch.addmm(codebook.half_squares, part, table.T, beta=-scale, alpha=scale)
                normaliser = logits.logsumexp(1, keepdim=True)
                losses[start : start + rows] = (normaliser - logits.gather(1, target))[:, 0]
                if gradient is not None:
                    probabilities = logits.sub_(normaliser).exp_()
                    probabilities.scatter_add_(1, target, -torch.ones_like(normaliser))
                    torch.mm(probabilities, table, out=gradient[start : start + rows])
        if gradient is not None:
            ctx.save_for_backward(gradient.mul_(scale))
        ctx.dtype = queries.dtype
        return losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream[:, None]).to(ctx.dtype), None, None


def full_precision(device: torch.device) -> torch.autocast:
    """Scores and tables stay in their own precision inside an autocast region: bf16 scores flip 3 to 9% of the ids."""
    return torch.autocast(device.type, enabled=False)


def default_temperature(words: int) -> float:
    """1 / ln K: on a word the softmax is sure, at the table's mean it is flat (facts 8.2)."""
    return 1 / math.log(max(words, 3))
