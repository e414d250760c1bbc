"""From a language model's rows to a table: outliers of the norm, centring, unit length, projection (facts 8.1, 8.3).

A table that a vocabulary only refers to is made anew from its rows and must be the same to the bit, on any machine.
Sums therefore run in a fixed order, and products in parts that float64 holds without rounding.
"""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from spae.vocabulary.record import TableName

OUTLIER_SCORE = 5.0
"""Robust z-score of log |e| beyond which a row is dropped; on MiniLM's 21,358 plain words it finds nine rare names."""
_ROWS_AT_ONCE = 4096  # of a product: three float64 copies of 4,096 columns take 400 MB


def center_and_scale(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The default table of facts 8.1: rows (K, C) -> ((e - mean) / |e - mean| as float32 (K, C), mean float32 (C,)).

    Without it the shortest rows win every search and the softmax of equation 7 is flat. Computed in float64.
    """
    mean = _mean(rows)
    centred = rows.double() - mean
    lengths = _sum(centred.square().T).sqrt()[:, None]
    if not bool((lengths > 0).all()):
        row = int((lengths[:, 0] > 0).logical_not().nonzero()[0])
        raise ValueError(f"row {row} of {len(rows)} is the mean row or not finite, so it has no direction; drop it")
    return (centred / lengths).float(), mean.float()


def norm_outliers(rows: Tensor, score: float = OUTLIER_SCORE) -> Tensor:
    """Which rows (K, C) have a length far from the others, bool (K,): robust z-score of log |e| above `score`."""
    logarithms = rows.double().norm(dim=1).clamp_min(1e-30).log()
    deviations = (logarithms - logarithms.median()).abs()
    spread = (1.4826 * deviations.median()).clamp_min(1e-3)  # rows of one length are not outliers for rounding alone
    return deviations / spread > score


def principal_projection(rows: Tensor, width: int) -> Tensor:
    """The principal directions of rows (K, W) about their mean: float32 (W, width), orthonormal columns, widest first.

    Signs are fixed (the largest entry of a column is positive), so that machines agree. Memory is W x W, in float64.
    ValueError where width is too large (`check_width`).
    """
    check_width(rows, width)
    centred = rows.double() - rows.double().mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    chosen = vectors[:, -width:].flip(1)
    largest = chosen.gather(0, chosen.abs().argmax(0, keepdim=True))
    return (chosen * largest.sign()).float()


def check_width(rows: Tensor, width: int) -> None:
    """ValueError where rows (K, W) have fewer principal directions than `width`: K - 1 or W."""
    limit = min(len(rows) - 1, rows.shape[1])
    if not 1 <= width <= limit:
        raise ValueError(f"width={width} must be between 1 and {limit}, which {tuple(rows.shape)} rows allow")


def make_transform(rows: Tensor, table: TableName, width: int | None) -> dict[str, Tensor]:
    """What leads from rows (K, W) to a raw or centred table: nothing, or their mean and, for a width, a projection."""
    if table != "centred":
        return {}
    mean = {"mean": _mean(rows).float()}
    return mean if width is None else {**mean, "projection": principal_projection(rows, width)}


def apply_transform(rows: Tensor, transform: Mapping[str, Tensor]) -> Tensor:
    """The table (K, C) of all its rows (K, W)."""
    if not transform:
        return rows
    if "projection" in transform:
        rows = _product(rows - transform["mean"], transform["projection"])
    return center_and_scale(rows)[0]


def rows_sha256(rows: Tensor) -> str:
    """sha256 of rows as little-endian float32."""
    return hashlib.sha256(rows.float().contiguous().numpy().astype("<f4", copy=False).data).hexdigest()


def _mean(rows: Tensor) -> Tensor:
    return _sum(rows.double()) / len(rows)


def _sum(values: Tensor) -> Tensor:
    """Sum over the first dimension by halves: torch's own order depends on threads and vector units."""
    while len(values) > 1:
        half = len(values) // 2
        values = torch.cat([values[:half] + values[half : 2 * half], values[2 * half :]])
    return values[0]


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left (K, W) @ right (W, C) as float32; parts of 20 bits multiply and add up exactly in float64, W to 8,192."""
    one, two = _parts(right)
    made = []
    for rows in left.split(_ROWS_AT_ONCE):
        high, low = _parts(rows)
        made.append(high @ one + (high @ two + low @ one))
    return torch.cat(made).float()


def _parts(values: Tensor) -> tuple[Tensor, Tensor]:
    """Two float64 tensors of 20 bits under the largest value's, which add up to the values up to 2^-40 of it."""
    _, exponent = torch.frexp(values.abs().max())
    step = 2.0 ** (int(exponent) - 19)
    high = (values.double() / step).round() * step
    low = ((values.double() - high) / (step * 2.0**-19)).round() * (step * 2.0**-19)
    return high, low
