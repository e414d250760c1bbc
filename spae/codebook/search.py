"""Exact nearest rows of a table: fast products screen, fp64 distances decide, and no score matrix is ever whole.

A chunk of words is scored for a block of queries in fp32 (CUDA: tf32), score = q.e - |e|^2 / 2, highest where nearest.
Only words whose score is within the products' error bound of the best can be the nearest, and nearly always that is one
a query. Where there are several, fp64 distances decide; where there are more than can be kept, as in clusters tighter
than fp32, the screening is repeated in fp64; and among more copies of a word than that all words are measured. On a GPU
with Triton a kernel that writes no scores (spae/codebook/screening.py) settles nearly all queries before that.

What grows: work with rows x words, memory with neither (40 to 70 MB, 128 at most).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spae.codebook.precision import tensor_float_32
from spae.codebook.products import biased_product
from spae.codebook.screening import has_kernels, screen

_BLOCK_QUERIES = 1_024
_FUSED_QUERIES = 65_536  # of so many the fused screening keeps 16 best words each: 13 MB
_CHUNK_SCORES = 8_388_608  # 32 MB in fp32; smaller chunks multiply more slowly
_GROUP = 512  # words whose highest score is looked at first; arrays of so few groups stay on one thread
_NEAR_GROUPS = 4  # groups of a chunk that are looked into for a query
_CANDIDATES = 64  # words kept a query
_DISTANCE_VALUES = 4_194_304  # fp64 differences at a time: 32 MB


@dataclass(frozen=True)
class Table:
    """Rows (K, C) float32 that are searched, and half their squared lengths (K,)."""

    rows: Tensor
    half_squares: Tensor


@torch.no_grad()
def nearest_rows(queries: Tensor, table: Table) -> Tensor:
    """Ids int64 (N,) of the rows closest to queries (N, C): those of an fp64 search, ties to the lowest id.

    Each search is given the queries that the one before it could not settle; the last settles all. Queries that are not
    finite are near no row: they get id 0, without a search. float64 queries are searched as such.
    """
    searches = [(_screen_in_fp64, _BLOCK_QUERIES), (_search_exhaustively, _BLOCK_QUERIES)]
    if queries.dtype != torch.float64:
        queries = queries.float()
        searches.insert(0, (_screen, _BLOCK_QUERIES))
        if has_kernels(queries.device):
            searches.insert(0, (_screen_fused, _FUSED_QUERIES))
    ids = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    unsettled = queries.isfinite().all(1).nonzero()[:, 0]
    for search, size in searches:
        left = []
        for rows in unsettled.split(size) if len(unsettled) else ():
            ids[rows], settled = search(queries[rows], table)
            left.append(rows[~settled])
        unsettled = torch.cat(left) if left else unsettled
    return ids


def _screen_fused(queries: Tensor, table: Table) -> tuple[Tensor, Tensor]:
    """As `_screen`, by one kernel that writes no scores."""
    found = screen(queries, table.rows, table.half_squares)
    return _closest(queries, found.rows, found.words, table), found.settled


def _screen_in_fp64(queries: Tensor, table: Table) -> tuple[Tensor, Tensor]:
    return _screen(queries.double(), table)


def _screen(queries: Tensor, table: Table) -> tuple[Tensor, Tensor]:
    """Nearest ids (n,) by products in the queries' precision, and for which queries they are certain."""
    words, count = len(table.rows), len(queries)
    error = 2 * _score_error(queries, table)
    best = queries.new_full((count,), -torch.inf)
    seen = torch.zeros(count, dtype=torch.int64, device=queries.device)
    chunk = _chunk_words(queries, words)
    buffer = queries.new_empty(chunk, count)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, words, chunk):
        scores = _score_chunk(queries, table, start, buffer)
        highest = _group_maxima(scores)
        best = torch.maximum(best, highest.amax(0))
        reach = torch.where(seen > _CANDIDATES, torch.inf, best - error)
        near = highest >= reach
        crowded = near.sum(0) > _NEAR_GROUPS
        seen += crowded * (_CANDIDATES + 1)
        groups, columns = (near & ~crowded).nonzero(as_tuple=True)
        pairs, offsets, close = _close_words(scores, groups, columns, reach)
        seen += torch.bincount(columns[pairs], minlength=count)
        found.append((columns[pairs], start + groups[pairs] * _GROUP + offsets, close))
    rows, candidates, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
    settled = (seen > 0) & (seen <= _CANDIDATES)
    kept = (scores >= (best - error)[rows]) & settled[rows]
    return _closest(queries, rows[kept], candidates[kept], table), settled


def _chunk_words(queries: Tensor, words: int) -> int:
    """Words a chunk, whole groups: as many as the scores allow, and in fp64 the copy of their rows."""
    allowed = _CHUNK_SCORES // len(queries)
    if queries.dtype == torch.float64:
        allowed = min(allowed, _DISTANCE_VALUES // queries.shape[1])
    return max(_GROUP, min(allowed, words + _GROUP - 1) // _GROUP * _GROUP)


def _score_chunk(queries: Tensor, table: Table, start: int, buffer: Tensor) -> Tensor:
    """Scores (m, n) of the words from `start`, in the buffer, filled up to whole groups with -inf."""
    words = table.rows[start : start + len(buffer)].to(queries.dtype)
    half_squares = table.half_squares[start : start + len(buffer)]
    if queries.dtype == torch.float64:
        half_squares = words.square().sum(1) / 2
    with tensor_float_32():
        biased_product(words, queries, half_squares, buffer[: len(words)])
    whole = -(-len(words) // _GROUP) * _GROUP
    buffer[len(words) : whole] = -torch.inf
    return buffer[:whole]


def _group_maxima(scores: Tensor) -> Tensor:
    """Highest score (m / group, n) of each group of words."""
    grouped = scores.view(-1, _GROUP, scores.shape[1])
    if scores.device.type == "cpu":  # torch's threads would wait actively and slow the next product down by a third
        return torch.from_numpy(np.max(grouped.numpy(), axis=1))
    return grouped.amax(1)


def _close_words(scores: Tensor, groups: Tensor, columns: Tensor, reach: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of pairs of a group and a query, the words within reach: the pair's number, the place in the group, the score."""
    grouped = scores.view(-1, _GROUP, scores.shape[1])
    if scores.device.type == "cpu":
        parts = grouped.numpy()[groups.numpy(), :, columns.numpy()]
        hits = np.nonzero(parts >= reach.numpy()[columns.numpy(), None])
        return torch.from_numpy(hits[0]), torch.from_numpy(hits[1]), torch.from_numpy(parts[hits])
    picked = grouped[groups, :, columns]
    pairs, offsets = (picked >= reach[columns, None]).nonzero(as_tuple=True)
    return pairs, offsets, picked[pairs, offsets]


def _score_error(queries: Tensor, table: Table) -> Tensor:
    """Bound (n,) on a score's rounding: of the factors, width x eps x |q| |e| for the sum, eps |e|^2 for the bias."""
    epsilon = torch.finfo(queries.dtype).eps
    longest = (2 * table.half_squares.max().to(queries.dtype)).sqrt()
    relative = (queries.shape[1] + 2) * epsilon + 2 * _factor_rounding(queries)
    return relative * queries.norm(dim=1) * longest + epsilon * longest.square()


def _factor_rounding(queries: Tensor) -> float:
    """Relative rounding of what is multiplied: that of tensor cores, which may cut instead of rounding; else none."""
    return 2**-10 if queries.is_cuda and queries.dtype == torch.float32 else 0.0


def _closest(queries: Tensor, rows: Tensor, candidates: Tensor, table: Table) -> Tensor:
    """Of each query's candidates the nearest (n,), by fp64 distance where there are several, ties to the lowest id."""
    several = torch.bincount(rows, minlength=len(queries)) > 1
    ids = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    alone = ~several[rows]
    ids[rows[alone]] = candidates[alone]
    rows, candidates = rows[~alone], candidates[~alone]
    distances = _distances(queries, rows, candidates, table)
    shortest = distances.new_full((len(queries),), torch.inf).scatter_reduce(0, rows, distances, "amin")
    nearest = distances == shortest[rows]
    lowest = torch.full_like(ids, len(table.rows)).scatter_reduce(0, rows[nearest], candidates[nearest], "amin")
    return torch.where(several, lowest, ids)


def _distances(queries: Tensor, rows: Tensor, candidates: Tensor, table: Table) -> Tensor:
    """Squared fp64 distances of pairs of a query and a word."""
    step = max(1, _DISTANCE_VALUES // queries.shape[1])
    parts = [
        (queries[some].double() - table.rows[words].double()).square().sum(1)
        for some, words in zip(rows.split(step), candidates.split(step), strict=True)
    ]
    return torch.cat(parts) if parts else queries.new_empty(0, dtype=torch.float64)


def _search_exhaustively(queries: Tensor, table: Table) -> tuple[Tensor, Tensor]:
    """Every word by fp64 distance, for queries that have more candidates than are kept, such as copies of one word."""
    queries = queries.double()
    ids = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    every = torch.arange(len(table.rows), device=queries.device)
    for row, query in enumerate(queries):
        ids[row] = _distances(query[None], torch.zeros_like(every), every, table).argmin()
    return ids, torch.ones_like(ids, dtype=torch.bool)
