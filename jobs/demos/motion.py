"""What the words of moving digits tell: how they move, and how well pictures come back from so many words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from jobs.demos.moving_digits import MOTIONS, TWO_DIGITS, motion_of
from spae.data.records import load_index
from spae.evaluation.metrics import Share, wilson
from spae.evaluation.pictures import encoded_batches
from spae.evaluation.pixels import PixelError, Rebuilt
from spae.model import SPAE, unit_pixels
from spae.pyramid import TokenPyramid, check_layers

COMPONENTS = 16
"""Principal components of the words' embeddings that the probe sees of each word."""
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}


@dataclass(frozen=True)
class MovingDigits:
    """Clips of one moving digit, their words, and how each moves.

    Attributes:
        pixels: uint8 (N, 3, T, H, W).
        pyramid: N pyramids.
        motions: N names.
    """

    pixels: Tensor
    pyramid: TokenPyramid
    motions: tuple[str, ...]


def read_moving_digits(model: SPAE, shards: str, batch: int = 64) -> MovingDigits:
    """The clips of a split that show one digit, with the words of a video model."""
    parts = [part for part in encoded_batches(model, load_index(shards).shards, batch) if part.pyramid]
    keys = [key for part in parts for key in part.keys]
    alone = torch.tensor([not key.startswith(TWO_DIGITS) for key in keys])
    pyramids = [part.pyramid.layers for part in parts if part.pyramid]
    return MovingDigits(
        pixels=torch.cat([part.pixels for part in parts])[alone],
        pyramid=TokenPyramid(tuple(torch.cat(layers)[alone] for layers in zip(*pyramids, strict=True))),
        motions=tuple(motion_of(key) for key in keys if not key.startswith(TWO_DIGITS)),
    )


def shuffled_frames(pixels: Tensor, seed: int = 0) -> Tensor:
    """Clips (N, 3, T, H, W) with the frames of each in a random order of its own."""
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(pixels.shape[2], generator=generator) for _ in range(len(pixels))])
    return torch.stack([clip[:, order] for clip, order in zip(pixels, orders, strict=True)])


class MotionProbe:
    """Tells the motion from the words of the first layers: a linear classifier of the words' principal components."""

    def __init__(self, model: SPAE, layers: int) -> None:
        self.layers = check_layers(layers, model.depth)
        table = model.codebook.embeddings.double()
        centred = table - table.mean(0)
        _, directions = torch.linalg.eigh(centred.T @ centred)
        self.components = (centred @ directions[:, -COMPONENTS:]).numpy()
        self.classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2_000))

    def fit(self, digits: MovingDigits) -> "MotionProbe":
        """Learn from clips."""
        self.classifier.fit(self._features(digits.pyramid), digits.motions)
        return self

    def score(self, pyramid: TokenPyramid, motions: Sequence[str]) -> dict[str, Share]:
        """How often the motion is told, and, of digits that move, how often the right one of two opposite directions.

        The second alone depends on the order of the frames and nothing else: its chance is a half.
        """
        logits = self.classifier.decision_function(self._features(pyramid))
        names = list(self.classifier.classes_)
        told = [names[row] == motion for row, motion in zip(logits.argmax(1), motions, strict=True)]
        moving = [
            bool(row[names.index(motion)] > row[names.index(OPPOSITE[motion])])
            for row, motion in zip(logits, motions, strict=True)
            if motion in OPPOSITE
        ]
        return {"motion": wilson(sum(told), len(told)), "direction": wilson(sum(moving), len(moving))}

    def _features(self, pyramid: TokenPyramid) -> NDArray[np.float64]:
        return self.components[pyramid.flatten(self.layers).numpy()].reshape(len(pyramid), -1)


def psnr_by_words(model: SPAE, clips: Tensor, batch: int = 64) -> list[dict[str, Any]]:
    """PSNR after each number of layers, with the words that a clip then takes.

    An image model encodes the frames of the clips uint8 (N, 3, T, H, W) one by one.
    """
    pictures, frames = clips, 1
    if len(model.config.input_size) == 2:
        pictures, frames = clips.movedim(2, 1).flatten(0, 1), clips.shape[2]
    errors = [PixelError() for _ in range(model.depth)]
    for part in pictures.split(batch):
        pyramid = model.encode(part)
        for layers, error in enumerate(errors, 1):
            error.update(Rebuilt(unit_pixels(part), model.decode(pyramid, layers)))
    words = np.cumsum(model.config.layer_sizes) * frames
    return [
        {"layers": layers, "words": int(count), "psnr": error.compute().psnr}
        for layers, (count, error) in enumerate(zip(words, errors, strict=True), 1)
    ]


def motion_score(model: SPAE, train: str, test: str, layers: int) -> dict[str, Any]:
    """What the words up to a layer tell of the motion in held-out clips, as they are and with their frames shuffled."""
    known, held_out = read_moving_digits(model, train), read_moving_digits(model, test)
    probe = MotionProbe(model, layers).fit(known)
    disordered = [model.encode(part).flatten() for part in shuffled_frames(held_out.pixels).split(64)]
    shuffled = TokenPyramid.from_flat(torch.cat(disordered), model.config.grids)
    return {
        "layers": layers,
        "chance": 1 / len(MOTIONS),
        "in_order": _plain(probe.score(held_out.pyramid, held_out.motions)),
        "shuffled": _plain(probe.score(shuffled, held_out.motions)),
    }


def _plain(shares: dict[str, Share]) -> dict[str, Any]:
    return {name: vars(share) for name, share in shares.items()}
