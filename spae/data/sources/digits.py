"""The handwritten digits that scikit-learn ships, as a source."""

import hashlib
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spae.data.media import encode_png
from spae.data.records import ClassName
from spae.data.sources.base import Entry

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_SIDE = 32
DIGIT_SPLITS = {"train": (0.0, 0.7), "val": (0.7, 0.85), "test": (0.85, 1.0)}
"""Share of each class's shuffled samples where a split begins and ends."""


@dataclass(frozen=True)
class DigitsSource:
    """The 1,797 handwritten digits that scikit-learn ships (8x8 grey, 0 to 16), upsampled bicubically to 32x32, as PNG.

    The split is stratified: the samples of each class are ordered by a hash of (split_seed, index) and cut at 70% and
    85%, so that it depends on no library's random numbers.
    """

    split: str
    split_seed: int

    def __post_init__(self) -> None:
        if self.split not in DIGIT_SPLITS:
            raise ValueError(f"split {self.split!r} of the digits must be one of {', '.join(DIGIT_SPLITS)}")

    def classes(self) -> tuple[ClassName, ...]:
        """zero to nine."""
        return tuple(ClassName(label, name) for label, name in enumerate(DIGIT_NAMES))

    def entries(self) -> Iterator[Entry]:
        """The digits of the split, by their index in the data set."""
        _, labels = _digits()
        begin, end = DIGIT_SPLITS[self.split]
        chosen: list[int] = []
        for label in range(len(DIGIT_NAMES)):
            order = sorted(np.flatnonzero(labels == label).tolist(), key=self._position)
            chosen += order[round(begin * len(order)) : round(end * len(order))]
        for index in sorted(chosen):
            yield Entry(f"digit-{index:04d}", f"load_digits/{index}", int(labels[index]))

    def read(self, entry: Entry, limit: int) -> bytes:
        """The digit as a grey PNG."""
        images, _ = _digits()
        small = np.round(images[int(posixpath.basename(entry.path))] * (255 / 16)).astype(np.uint8)
        large = Image.fromarray(small).resize((DIGIT_SIDE, DIGIT_SIDE), Image.Resampling.BICUBIC)
        return encode_png(np.asarray(large))[:limit]

    def _position(self, index: int) -> bytes:
        return hashlib.sha256(f"{self.split_seed}|{index}".encode()).digest()


@lru_cache(maxsize=1)
def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("--source digits needs scikit-learn; install the extra `spae[demo]`") from error
    data: Any = load_digits()
    return data.images, data.target
