"""Triton kernels of the searches and losses that run on a GPU; nothing else imports Triton.

Triton comes with torch where torch has CUDA. With TRITON_INTERPRET=1 in the environment before this module is imported,
the same kernels run on CPU tensors, slowly: that is how they are tested without a GPU.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor


@dataclass(frozen=True)
class Tiles:
    """Rows, words and columns that a program of `best_words` multiplies at a time, its warps and pipeline stages."""

    rows: int
    words: int
    columns: int
    warps: int
    stages: int

    @classmethod
    def of(cls, device: torch.device) -> "Tiles":
        """Those that fit a device's shared memory: (rows + words) x columns x 2 bytes a stage."""
        if device.type != "cuda":  # the interpreter
            return TINY
        shared = torch.cuda.get_device_properties(device).shared_memory_per_block_optin
        return LARGE if shared >= 160_000 else SMALL


LARGE = Tiles(128, 256, 64, 8, 3)  # A100, H100, H200
SMALL = Tiles(64, 128, 64, 4, 3)
TINY = Tiles(32, 64, 32, 1, 1)


@dataclass(frozen=True)
class BestWords:
    """Of each part of the words (S, N): the highest score, its word int32, and the second highest score."""

    highest: Tensor
    words: Tensor
    second: Tensor


def best_words(queries: Tensor, table: Tensor, half_squares: Tensor, factors: Tensor) -> BestWords:
    """Screen scores q.e x factor - half_squares without writing one of them.

    Args:
        queries: (N, C) float16, contiguous.
        table: (K, C) float16, contiguous.
        half_squares: (K,) float32.
        factors: (N,) float32, what undoes the scaling of queries and table.
    """
    (count, width), words = queries.shape, len(table)
    tiles = Tiles.of(queries.device)
    blocks = triton.cdiv(count, tiles.rows)
    parts = min(max(_PARTS, triton.cdiv(_PROGRAMS, blocks)), triton.cdiv(words, tiles.words))
    part_words = triton.cdiv(triton.cdiv(words, parts), tiles.words) * tiles.words
    parts = triton.cdiv(words, part_words)
    highest = queries.new_empty(parts, count, dtype=torch.float32)
    found = BestWords(highest, torch.empty_like(highest, dtype=torch.int32), torch.empty_like(highest))
    _best_words[(blocks, parts)](
        *(queries, table, half_squares, factors, found.highest, found.words, found.second),
        *(count, words, width, part_words),
        BLOCK_ROWS=tiles.rows,
        BLOCK_WORDS=tiles.words,
        BLOCK_COLUMNS=tiles.columns,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return found


def softmax_and_losses(scores: Tensor, biases: Tensor, targets: Tensor, losses: Tensor) -> None:
    """Scores (N, K) float32 become the softmax of scores - biases, in place; losses (N,) get -log of it at targets."""
    count, words = scores.shape
    block = min(triton.next_power_of_2(words), _SOFTMAX_BLOCK)
    _softmax_and_losses[(count,)](scores, biases, targets, losses, words, BLOCK_WORDS=block, num_warps=8)


_PARTS = 16  # of the words at least: two candidates in one part cost a second search
_PROGRAMS = 528  # at least: four for each of an H200's 132 multiprocessors
_SOFTMAX_BLOCK = 4_096
_LOWEST = tl.constexpr(-3e38)  # finite: a difference of two infinities is none


@triton.jit
def _best_words(
    queries,
    table,
    half_squares,
    factors,
    highest_out,
    words_out,
    second_out,
    count,
    words,
    width,
    part_words,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_WORDS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    first = tl.program_id(1) * part_words
    end = tl.minimum(first + part_words, words)
    places = tl.arange(0, BLOCK_WORDS)
    in_rows = rows < count
    left = queries + rows.to(tl.int64)[:, None] * width
    factor = tl.load(factors + rows, mask=in_rows, other=0.0)
    highest = tl.full((BLOCK_ROWS,), float("-inf"), tl.float32)
    word, second = tl.zeros((BLOCK_ROWS,), tl.int32), highest
    for start in range(first, end, BLOCK_WORDS):
        in_words = start + places < end
        right = table + (start + places).to(tl.int64)[:, None] * width
        sums = _products(left, right, in_rows, in_words, width, BLOCK_ROWS, BLOCK_WORDS, BLOCK_COLUMNS)
        bias = tl.load(half_squares + start + places, mask=in_words, other=float("inf"))
        scores = sums * factor[:, None] - bias[None, :]
        top, place = tl.max(scores, 1, return_indices=True)
        runner_up = tl.max(tl.where(places[None, :] == place[:, None], float("-inf"), scores), 1)
        second = tl.maximum(tl.minimum(highest, top), tl.maximum(second, runner_up))
        word = tl.where(top > highest, start + place, word)
        highest = tl.maximum(highest, top)
    out = tl.program_id(1).to(tl.int64) * count + rows
    tl.store(highest_out + out, highest, mask=in_rows)
    tl.store(words_out + out, word, mask=in_rows)
    tl.store(second_out + out, second, mask=in_rows)


@triton.jit
def _products(
    left,
    right,
    in_rows,
    in_words,
    width,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_WORDS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    columns = tl.arange(0, BLOCK_COLUMNS)
    sums = tl.zeros((BLOCK_ROWS, BLOCK_WORDS), tl.float32)
    for column in range(0, width, BLOCK_COLUMNS):
        in_columns = column + columns[None, :] < width
        a = tl.load(left + column + columns[None, :], mask=in_rows[:, None] & in_columns, other=0.0)
        b = tl.load(right + column + columns[None, :], mask=in_words[:, None] & in_columns, other=0.0)
        sums = tl.dot(a, tl.trans(b), sums)
    return sums


@triton.jit
def _softmax_and_losses(
    scores,
    biases,
    targets,
    losses,
    words,
    BLOCK_WORDS: tl.constexpr,
):
    row = tl.program_id(0)
    line = scores + row.to(tl.int64) * words
    places = tl.arange(0, BLOCK_WORDS)
    target = tl.load(targets + row)
    target_score = tl.load(line + target) - tl.load(biases + target)
    highest = tl.full((BLOCK_WORDS,), _LOWEST, tl.float32)
    total = tl.zeros((BLOCK_WORDS,), tl.float32)
    for start in range(0, words, BLOCK_WORDS):
        inside = start + places < words
        bias = tl.load(biases + start + places, mask=inside, other=float("inf"))
        value = tl.load(line + start + places, mask=inside, other=0.0) - bias
        higher = tl.maximum(highest, value)
        total = total * tl.exp(highest - higher) + tl.exp(value - higher)
        highest = higher
    top = tl.max(highest, 0)
    sums = tl.sum(total * tl.exp(highest - top), 0)
    tl.store(losses + row, top - target_score + tl.log(sums))
    for start in range(0, words, BLOCK_WORDS):
        inside = start + places < words
        bias = tl.load(biases + start + places, mask=inside, other=float("inf"))
        value = tl.load(line + start + places, mask=inside, other=0.0) - bias
        # minus the highest first: minus the whole normaliser would round all probabilities of a row alike
        tl.store(line + start + places, tl.exp(value - top) / sums, mask=inside)
