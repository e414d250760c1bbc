"""A fixed projection of wide tables, such as the 4,096 of large language models (facts 8.3)."""

import torch
from torch import Tensor


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
