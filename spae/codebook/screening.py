"""The first pass of a search on a GPU: which words can be a row's nearest, found on tensor cores in float16.

Rows and table are scaled by powers of two into float16's range, which has the eleven bits of tf32 at twice its rate.
How far a score can be from the exact one follows from what rounding took from these very rows and words: that is a
fifth of the bound for any rows, and so nearly every row has one word within reach.
"""

import functools
import importlib.util
from dataclasses import dataclass

import torch
from torch import Tensor

_LARGEST_EXPONENT = 10  # of a scaled value: sums of products stay far inside float32, small values above subnormals
_SCALE_EXPONENT = 60  # at most, so that two scales multiply within float32
_BLOCK_ROWS = 16_384
_SUM_ERROR = 2.0**-22  # of a sum on tensor cores a term, which may cut where float32 rounds


@dataclass(frozen=True)
class Screened:
    """Pairs of a row and a word that may be its nearest, and for which rows (N,) these are all there can be."""

    rows: Tensor
    words: Tensor
    settled: Tensor


@dataclass(frozen=True)
class _Halves:
    """Float16 values (n, C), rows times powers of two; what undoes these (n,); lengths of what rounding took (n,)."""

    values: Tensor
    factors: Tensor
    residuals: Tensor


@functools.cache
def has_kernels(device: torch.device) -> bool:
    """Whether Triton can run there."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def screen(queries: Tensor, table: Tensor, half_squares: Tensor) -> Screened:
    """Candidates of queries (N, C) float32 among the rows of a table (K, C) float32, no score ever written."""
    from spae.codebook.kernels import best_words

    ours = _halves(queries, torch.linalg.vector_norm(queries, torch.inf, dim=1))
    theirs = _halves(table, torch.linalg.vector_norm(table, torch.inf).expand(len(table)))  # one scale for all words
    best = best_words(ours.values, theirs.values, half_squares, ours.factors * theirs.factors[0])
    reach = best.highest.amax(0) - 2 * _score_error(queries, ours.residuals, theirs.residuals.max(), half_squares)
    near = best.highest >= reach
    settled = near.any(0) & ~(best.second >= reach).any(0)
    parts, rows = (near & settled).nonzero(as_tuple=True)
    return Screened(rows, best.words[parts, rows].long(), settled)


def _halves(values: Tensor, largest: Tensor) -> _Halves:
    """`largest` (n,) is the highest magnitude that a row must fit."""
    exponents = (_LARGEST_EXPONENT - torch.frexp(largest).exponent).clamp(-_SCALE_EXPONENT, _SCALE_EXPONENT)
    scales = torch.ldexp(torch.ones_like(largest), exponents)
    halves, residuals = torch.empty_like(values, dtype=torch.float16), torch.empty_like(largest)
    for start in range(0, len(values), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        part, scale = values[block], scales[block, None]
        halves[block] = part * scale
        residuals[block] = (part - halves[block].float() / scale).norm(dim=1)
    return _Halves(halves, 1 / scales, residuals)


def _score_error(queries: Tensor, residuals: Tensor, table_residual: Tensor, half_squares: Tensor) -> Tensor:
    """Bound (N,) on |q.e - its float16 product| by Cauchy and Schwarz, on the sum's own rounding, and on the bias's."""
    epsilon, lengths = torch.finfo(torch.float32).eps, queries.norm(dim=1)
    longest = (2 * half_squares.max()).sqrt()
    rounded = residuals * longest + (lengths + residuals) * table_residual
    summed = queries.shape[1] * _SUM_ERROR * (lengths + residuals) * (longest + table_residual)
    return 1.01 * (rounded + summed) + 2 * epsilon * (lengths * longest + longest.square())
