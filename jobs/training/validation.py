"""Validation: the PSNR of all layers on the first pictures of a split."""

import itertools
import logging
import math

import torch
from torch import Tensor
from torch.nn import functional

from spae.data.augmentation import load_pictures
from spae.data.media import MediaError
from spae.data.records import load_index
from spae.data.tar import read_samples
from spae.model import SPAE, unit_pixels

logger = logging.getLogger(__name__)

PICTURES = 256
"""Pictures to validate on; held in memory by the first worker."""


def load_validation(shards: str, size: tuple[int, ...], most: int = PICTURES, frame_stride: int = 1) -> Tensor:
    """The first pictures of a split, or the clips in the middle of its first videos, uint8 (B, 3, *S).

    Those that cannot be decoded are named and left out. ValueError where none is left, or a shard is damaged.
    """
    samples = (sample for shard in load_index(shards).shards for sample in read_samples(shard.url))
    pictures = []
    for sample in itertools.islice(samples, most):
        try:
            pictures.append(load_pictures([sample.media], size, frame_stride))
        except MediaError as error:
            logger.warning("validation leaves out sample %s, which cannot be decoded (%s)", sample.key, error)
    if not pictures:
        raise ValueError(f"{shards} holds no picture to validate on among its first {most} samples")
    return torch.cat(pictures)


@torch.no_grad()
def validation_psnr(model: SPAE, pixels: Tensor, batch: int) -> float:
    """PSNR in dB of all layers on pictures uint8 (B, 3, *S), from their common mean squared error.

    `batch` pictures pass through the model at a time: all 256 at once would hold 8.6 GB for one activation of 128
    channels at 256 pixels.
    """
    model.refresh()
    squared = 0.0
    for part in pixels.split(batch):
        part = part.to(model.device)
        rebuilt = model.decode(model.encode(part))
        squared += float(functional.mse_loss(rebuilt.float(), unit_pixels(part), reduction="sum"))
    return -10 * math.log10(squared / pixels.numel())
