"""Crops of the real photographs that installed packages ship, as class folders: `OUTPUT/{split}/{class}/{crop}.png`.

    python -m jobs.demos.photographs --output runs/demo-full/photographs

The classes are the photographs: a temple, a flower and a portrait. Validation's crops lie in the right quarter of each,
where none of training's does.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image

from spae.data.media import encode_png

NAMES = ("temple", "flower", "portrait")
SIDE = 64
ZOOMS = (64, 96, 128, 160)
"""Pixels a side of the crops, which are brought to SIDE; they overlap by half."""
TRAINING = 0.75
"""Share of each photograph's width, from the left."""

Picture = NDArray[np.uint8]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PhotographsFlags:
    """Where the crops go."""

    output: str
    """Local folder."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    flags = tyro.cli(PhotographsFlags, args=arguments, description=__doc__)
    for split in ("train", "val"):
        made = 0
        for name, photograph in zip(NAMES, photographs(), strict=True):
            folder = Path(flags.output, split, name)
            folder.mkdir(parents=True, exist_ok=True)
            edge = round(TRAINING * photograph.shape[1])
            part = photograph[:, :edge] if split == "train" else photograph[:, edge:]
            for number, crop in enumerate(crops(part)):
                (folder / f"{name}-{number:04d}.png").write_bytes(encode_png(crop))
                made += 1
        logger.info("%s: %d crops", split, made)
    return 0


def photographs() -> list[Picture]:
    """scikit-learn's two and matplotlib's one, uint8 (H, W, 3)."""
    import matplotlib
    from sklearn.datasets import load_sample_images

    with Image.open(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")) as image:
        return [*load_sample_images().images, np.asarray(image.convert("RGB"))]


def crops(photograph: Picture) -> Iterator[Picture]:
    """Squares of every zoom at SIDE, row by row."""
    height, width, _ = photograph.shape
    image = Image.fromarray(photograph)
    for zoom in ZOOMS:
        for top in range(0, height - zoom + 1, zoom // 2):
            for left in range(0, width - zoom + 1, zoom // 2):
                box = (left, top, left + zoom, top + zoom)
                yield np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box))


if __name__ == "__main__":
    sys.exit(main())
