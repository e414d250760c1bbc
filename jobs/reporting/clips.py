"""Clips and what is rebuilt of them as pictures: frames in a strip, and one that moves."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from spae.data.media import encode_png
from spae.data.records import SplitIndex
from spae.evaluation.pictures import channels_first, read_pictures
from spae.model import SPAE

_GAP = 2  # pixels between clips, white


def example_strip(model: SPAE, index: SplitIndex, count: int, frame_stride: int) -> bytes:
    """The first clips of a split in a strip, each above what 1 to D layers give; ValueError where none is decodable."""
    for shard in index.shards:
        for clips in read_pictures(shard, model.config.input_size, count, frame_stride):
            if clips.keys:
                return strip_png(clip_rows(model, channels_first(clips.pixels), range(1, model.depth + 1)))
    raise ValueError(f"no video of {index.name} can be decoded")


def clip_rows(model: SPAE, clips: Tensor, layers: Sequence[int]) -> NDArray[np.uint8]:
    """Clips uint8 (B, 3, T, H, W) and below them what so many first layers give, uint8 (B, 1 + n, T, H, W, 3)."""
    pyramid = model.encode(clips)
    rebuilt = [(model.decode(pyramid, count) * 255).round().byte().cpu() for count in layers]
    return np.stack([one.movedim(1, -1).numpy() for one in (clips.cpu(), *rebuilt)], axis=1)


def strip_png(rows: NDArray[np.uint8], scale: int = 3) -> bytes:
    """The frames from left to right, the rows of a clip below each other, as one PNG; each pixel `scale` times."""
    bordered = _bordered(rows, frames=True)
    clips, lines, frames, height, width, _ = bordered.shape
    sheet = bordered.transpose(0, 1, 3, 2, 4, 5).reshape(clips * lines * height, frames * width, 3)
    return encode_png(_enlarged(sheet, scale))


def moving_picture(rows: NDArray[np.uint8], rate: float, scale: int = 3) -> bytes:
    """The clips side by side, their rows below each other, as an animated PNG of `rate` frames a second."""
    bordered = _bordered(rows, frames=False)
    clips, lines, frames, height, width, _ = bordered.shape
    sheets = bordered.transpose(2, 1, 3, 0, 4, 5).reshape(frames, lines * height, clips * width, 3)
    pictures = [Image.fromarray(_enlarged(sheet, scale)) for sheet in sheets]
    sink = io.BytesIO()
    pictures[0].save(sink, "PNG", save_all=True, append_images=pictures[1:], duration=1000 / rate, loop=0)
    return sink.getvalue()


def _bordered(rows: NDArray[np.uint8], *, frames: bool) -> NDArray[np.uint8]:
    """With a white border right of each frame, or of each clip, and below each row."""
    return np.pad(rows, [(0, 0)] * 3 + [(0, _GAP), (0, 1 if frames else _GAP), (0, 0)], constant_values=255)


def _enlarged(sheet: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    return sheet.repeat(scale, axis=0).repeat(scale, axis=1)
