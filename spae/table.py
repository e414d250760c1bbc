"""From a language model's rows to a table: outliers of the norm, centring, unit length, projection (facts 8.1, 8.3)."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from spae.vocabulary_record import TableName

OUTLIER_SCORE = 5.0
"""Robust z-score of log |e| beyond which a row is dropped; on MiniLM's 21,358 plain words it finds nine rare names."""


def center_and_scale(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The default table of facts 8.1: rows (K, C) -> ((e - mean) / |e - mean| as float32 (K, C), mean float32 (C,)).

    Without it the shortest rows win every search and the softmax of equation 7 is flat. Computed in float64.
    """
    mean = rows.double().mean(0)
    centred = rows.double() - mean
    lengths = centred.norm(dim=1, keepdim=True)
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
    ValueError where width is not between 1 and both K - 1 and W.
    """
    limit = min(len(rows) - 1, rows.shape[1])
    if not 1 <= width <= limit:
        raise ValueError(f"width={width} must be between 1 and {limit}, which {tuple(rows.shape)} rows allow")
    centred = rows.double() - rows.double().mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    chosen = vectors[:, -width:].flip(1)
    largest = chosen.gather(0, chosen.abs().argmax(0, keepdim=True))
    return (chosen * largest.sign()).float()


def make_transform(rows: Tensor, table: TableName, width: int | None) -> dict[str, Tensor]:
    """What leads from rows (K, W) to a raw or centred table: nothing, or their mean and, for a width, a projection."""
    if table != "centred":
        return {}
    mean = {"mean": rows.double().mean(0).float()}
    return mean if width is None else {**mean, "projection": principal_projection(rows, width)}


def apply_transform(rows: Tensor, transform: Mapping[str, Tensor]) -> Tensor:
    """The table (K, C) of all its rows (K, W); on one kind of machine bit-equal at every call."""
    if not transform:
        return rows
    if "projection" in transform:
        rows = (rows - transform["mean"]) @ transform["projection"]
    return center_and_scale(rows)[0]


def rows_sha256(rows: Tensor) -> str:
    """sha256 of rows as little-endian float32."""
    return hashlib.sha256(rows.float().contiguous().numpy().astype("<f4", copy=False).data).hexdigest()
