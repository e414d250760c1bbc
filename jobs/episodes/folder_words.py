"""The words of pictures in a folder, encoded when they are first asked for."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from spae.data.media import DEFAULT_LIMITS, MediaError, decode_image, fit_image
from spae.data.sources.files import Place, read_part
from spae.evaluation.pictures import encode_in_batches
from spae.incontext.text import WordText
from spae.model import SPAE
from spae.pyramid import check_layers

_KEPT = 1 << 16  # pictures; 597 words of each are 157 MB


class FolderWords:
    """Pictures below a folder as words, by evaluation's crop; each is encoded once. Links in the folder are followed.

    Args:
        model: the tokenizer.
        folder: by path or URL.
        batch: pictures of every pass of the model.

    Raises:
        ValueError: the model is one of clips.
    """

    def __init__(self, model: SPAE, folder: str, batch: int) -> None:
        if len(model.config.input_size) != 2:
            raise ValueError(f"input size {model.config.input_size} is of clips; pictures need a model of pictures")
        self.model, self.folder, self.batch = model, folder, batch
        self._writer = WordText(model.vocabulary)
        self._kept: dict[str, NDArray[np.int32] | MediaError] = {}

    @property
    def depth(self) -> int:
        """Layers that the model has."""
        return self.model.depth

    @property
    def fingerprint(self) -> str:
        """Of the model."""
        return self.model.fingerprint

    def read(self, pictures: Sequence[str], layers: int) -> list[str | MediaError]:
        """Of each picture its first layers as one line, or why it cannot be read; ValueError for layers there are not.

        A path that leads out of the folder cannot be read.
        """
        check_layers(layers, self.depth)
        found = {picture: self._kept[picture] for picture in pictures if picture in self._kept}
        found |= self._encode([picture for picture in dict.fromkeys(pictures) if picture not in found])
        self._kept |= found
        for picture in list(self._kept)[: max(len(self._kept) - _KEPT, 0)]:
            del self._kept[picture]
        words = sum(int(np.prod(grid)) for grid in self.model.config.grids[:layers])
        rows = (found[picture] for picture in pictures)
        return [row if isinstance(row, MediaError) else self._writer.write(row[:words].tolist()) for row in rows]

    def _encode(self, pictures: Sequence[str]) -> dict[str, NDArray[np.int32] | MediaError]:
        found: dict[str, NDArray[np.int32] | MediaError] = {}
        for start in range(0, len(pictures), self.batch):
            arrays: dict[str, NDArray[np.uint8]] = {}
            for picture in pictures[start : start + self.batch]:
                try:
                    arrays[picture] = self._decode(picture)
                except MediaError as error:
                    found[picture] = error
            if arrays:
                pyramid = encode_in_batches(self.model, np.stack(list(arrays.values())), self.batch)
                found |= zip(arrays, pyramid.flatten().numpy().astype(np.int32), strict=True)
        return found

    def _decode(self, picture: str) -> NDArray[np.uint8]:
        path = PurePosixPath(picture)
        if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in picture:
            raise MediaError("not below the data's folder")
        try:
            data = read_part(Place(self.folder, picture), 0, None, DEFAULT_LIMITS.bytes + 1)
        except OSError as error:
            raise MediaError("cannot be read", repr(error)) from error
        height, width = self.model.config.input_size
        return fit_image(decode_image(data), (height, width))
