"""How many of its layers a picture needs to be rebuilt well enough."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from spae.evaluation.pictures import decode_in_batches
from spae.model import SPAE
from spae.pyramid import TokenPyramid

_BATCHES_AT_ONCE = 16
"""Whose pictures are held, so that few passes of a batch are filled up."""


def needed_layers(
    model: SPAE, pyramid: TokenPyramid, pixels: NDArray[np.uint8], batch: int, error_db: float
) -> NDArray[np.int32]:
    """The fewest first layers, int32 (n,), that rebuild each picture at a PSNR of `error_db` or more, else all.

    Args:
        model: decodes, at the same batch shape as `jobs.reconstruct_shards` does.
        pyramid: words of n pictures.
        pixels: the pictures, uint8 (n, H, W, 3), as the model was given them.
        batch: pictures of every pass.
        error_db: least PSNR in dB.
    """
    needed, left = np.full(len(pixels), len(pyramid.layers), np.int32), np.arange(len(pixels))
    for layers in range(1, len(pyramid.layers)):
        chosen = TokenPyramid(tuple(ids[torch.from_numpy(left)] for ids in pyramid.layers[:layers]))
        starts = range(0, len(left), batch)
        rebuilt = zip(starts, decode_in_batches(model, chosen, batch), strict=True)
        reached = [psnr(part, pixels[left[start : start + batch]]) for start, part in rebuilt]
        enough = np.concatenate([np.empty(0), *reached]) >= error_db
        needed[left[enough]] = layers
        left = left[~enough]
    return needed


def decode_as_deep(
    model: SPAE, pyramid: TokenPyramid, depth: NDArray[np.int32], batch: int
) -> Iterator[NDArray[np.uint8]]:
    """Pictures uint8 (b, H, W, 3) in their order, each rebuilt by as many first layers as `depth` (n,) says of it."""
    for start in range(0, len(depth), _BATCHES_AT_ONCE * batch):
        here = np.arange(start, min(start + _BATCHES_AT_ONCE * batch, len(depth)))
        rebuilt: dict[int, NDArray[np.uint8]] = {}
        for layers in np.unique(depth[here]).tolist():
            alike = here[depth[here] == layers]
            chosen = TokenPyramid(tuple(ids[torch.from_numpy(alike)] for ids in pyramid.layers[:layers]))
            pictures = itertools.chain.from_iterable(decode_in_batches(model, chosen, batch))
            rebuilt |= zip(alike.tolist(), pictures, strict=True)
        yield np.stack([rebuilt[number] for number in here.tolist()])


def psnr(rebuilt: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of each picture: 10 log10(255^2 / mean squared error over all its values), infinite where there is no error."""
    squares = (rebuilt.astype(np.float64) - pixels) ** 2
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255**2 / squares.reshape(len(pixels), -1).mean(axis=1))
