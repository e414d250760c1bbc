"""Real handwritten digits that move, as mp4 files: `OUTPUT/{split}/{class}/{motion}-{key}.mp4`.

    python -m jobs.demos.moving_digits --output runs/demo-video/videos

A digit crosses the middle of the picture in one of four directions, or stands still. Its way is the same forwards and
backwards, so that only the order of the frames tells left from right. Classes are the digits' names; the training split
has clips of two digits too, of which each goes its own way, in a class of their own.
"""

import io
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image

from spae.data.mp4 import encode_mp4
from spae.data.order import random_generator
from spae.data.sources.digits import DIGIT_NAMES, DigitsSource
from spae.data.video import Frame

SIDE = 32
FRAMES = 10
"""Of a video; training cuts 8 of them."""
RATE = 12.5
MOTIONS = {"still": (0, 0), "left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""Pixels to the right and down."""
TWO_DIGITS = "two-digits"
ONE_SIDE, TWO_SIDE = 28, 18
"""Pixels of a digit that is alone, and of one of two. The demo's CLIP, trained on digits of 32 pixels that stand still,
names 98% of those of 28 that move by 8 pixels, 37% of those of 20."""
DISTANCE = (7.0, 10.0)
"""Pixels that a digit moves from the first to the last frame of a video."""
CRF = 10
"""Quality of the encoder: so small a picture needs a high one."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MovingDigitsFlags:
    """Where the videos go, and of which digits."""

    output: str
    """Local folder; what is there already stays."""
    split_seed: int = 13
    """As in `pipelines.images --source digits`: which digits are of which split."""
    seed: int = 0
    """Of the motions."""
    limit: int | None = None
    """Digits a split, for trials."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    flags = tyro.cli(MovingDigitsFlags, args=arguments, description=__doc__)
    for split in ("train", "val", "test"):
        made = 0
        Path(flags.output, split, TWO_DIGITS).mkdir(parents=True, exist_ok=True)  # labels of all splits agree
        for name, frames in videos(split, flags):
            file = Path(flags.output, split, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode_mp4(frames, rate=RATE, crf=CRF))
            made += 1
        logger.info("%s: %d videos", split, made)
    return 0


def videos(split: str, flags: MovingDigitsFlags) -> Iterator[tuple[str, list[Frame]]]:
    """Name and frames of each video of a split."""
    source = DigitsSource(split, flags.split_seed)
    entries = list(source.entries())[: flags.limit]
    pictures = [_picture(source.read(entry, 1 << 20)) for entry in entries]
    for number, (entry, picture) in enumerate(zip(entries, pictures, strict=True)):
        generator = random_generator(flags.seed, 0, entry.key)
        motion = str(generator.choice(list(MOTIONS)))
        sprite = Sprite.create(picture, ONE_SIDE, (0.0, 0.0), motion, generator)
        yield f"{DIGIT_NAMES[entry.label or 0]}/{motion}-{entry.key}.mp4", _frames([sprite])
        if split == "train" and number % 4 == 0:
            other = pictures[int(generator.integers(len(pictures)))]
            motions = [str(name) for name in generator.choice(list(MOTIONS), 2)]
            pair = [
                Sprite.create(one, TWO_SIDE, (x, 0.0), name, generator)
                for one, x, name in zip((picture, other), (-7.0, 7.0), motions, strict=True)
            ]
            yield f"{TWO_DIGITS}/{'-'.join(motions)}-{entry.key}.mp4", _frames(pair)


def motion_of(key: str) -> str:
    """The motion of the digit in a sample, by its key in shards of `pipelines.videos`."""
    motion = key.split("_", 1)[-1].split("-", 1)[0]
    if motion not in MOTIONS:
        raise ValueError(f"{key} is no sample of one moving digit; its motion would be one of {', '.join(MOTIONS)}")
    return motion


@dataclass(frozen=True)
class Sprite:
    """A digit on its way: grey (H, W), where its middle is halfway, and how far it goes in all, in pixels."""

    pixels: NDArray[np.uint8]
    middle: tuple[float, float]
    way: tuple[float, float]

    @classmethod
    def create(
        cls,
        picture: Image.Image,
        side: int,
        offset: tuple[float, float],
        motion: str,
        generator: np.random.Generator,
    ) -> "Sprite":
        """One of a size, so far from the middle of the picture, up to a pixel more at random."""
        jitter, distance = generator.uniform(-1, 1, 2), generator.uniform(*DISTANCE)
        middle = (SIDE / 2 + offset[0] + jitter[0], SIDE / 2 + offset[1] + jitter[1])
        pixels = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))
        x, y = MOTIONS[motion]
        return cls(pixels, middle, (x * distance, y * distance))

    def draw(self, canvas: NDArray[np.uint8], time: float) -> None:
        """Paint it at a time from 0 to 1, the lighter of two pixels where something is there already."""
        side = len(self.pixels)
        left, top = (
            round(middle + (time - 0.5) * way - side / 2) for middle, way in zip(self.middle, self.way, strict=True)
        )
        rows, columns = (slice(max(start, 0), min(start + side, SIDE)) for start in (top, left))
        part = self.pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        canvas[rows, columns] = np.maximum(canvas[rows, columns], part)


def _frames(sprites: Sequence[Sprite]) -> list[Frame]:
    frames = []
    for number in range(FRAMES):
        canvas = np.zeros((SIDE, SIDE), np.uint8)
        for sprite in sprites:
            sprite.draw(canvas, number / (FRAMES - 1))
        frames.append(Frame(number / RATE, np.repeat(canvas[:, :, None], 3, axis=2)))
    return frames


def _picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("L")


if __name__ == "__main__":
    sys.exit(main())
