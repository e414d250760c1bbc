"""Pictures and clips as training varies them, and as evaluation crops them (facts 8.17)."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from spae.config import DataConfig
from spae.data.media import decode_image, fit_image
from spae.data.video import ClipShape, decode_clips

Image8 = NDArray[np.uint8]


def augment(picture: Image8, config: DataConfig, size: tuple[int, ...], generator: np.random.Generator) -> Image8:
    """Random resized crop, flip and shift to the input size (facts 8.17), of a picture (H, W, 3).

    All pictures of a clip (T, H, W, 3) have the same crop, flip and shift.
    """
    if picture.ndim == 4:
        return np.stack([augment(frame, config, size, copy.deepcopy(generator)) for frame in picture])
    height, width = size[-2:]
    if config.crop_scale != (1.0, 1.0):
        box = _random_box(picture.shape[:2], config.crop_scale, generator)
        picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC, box=box))
    picture = fit_image(picture, (height, width))
    if config.flip and generator.random() < 0.5:
        picture = picture[:, ::-1]
    if config.shift:
        rows, columns = generator.integers(-config.shift, config.shift + 1, 2)
        padded = np.pad(picture, [(config.shift, config.shift)] * 2 + [(0, 0)], mode="edge")
        top, left = config.shift + rows, config.shift + columns
        picture = padded[top : top + height, left : left + width]
    return np.ascontiguousarray(picture)


def _random_box(
    sides: tuple[int, ...], scale: tuple[float, float], generator: np.random.Generator
) -> tuple[float, float, float, float]:
    """A random box of the given share of the area, aspect 3:4 to 4:3, as (left, top, right, bottom)."""
    height, width = sides
    area = height * width * generator.uniform(*scale)
    aspect = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
    box_width, box_height = min(np.sqrt(area * aspect), width), min(np.sqrt(area / aspect), height)
    left, top = generator.uniform(0, width - box_width), generator.uniform(0, height - box_height)
    return float(left), float(top), float(left + box_width), float(top + box_height)


def load_picture(media: bytes, size: tuple[int, ...], frame_stride: int = 1) -> Image8:
    """An encoded picture as uint8 (H, W, 3) by short side and centre crop, as in evaluation (facts 8.17).

    Of a video the clip in its middle, (T, H, W, 3). MediaError where it cannot be decoded.
    """
    sides = (size[-2], size[-1])
    if len(size) == 2:
        return fit_image(decode_image(media), sides)
    (clip,) = decode_clips(media, ClipShape(size[0], frame_stride), [0.5])
    return np.stack([fit_image(frame, sides) for frame in clip])


def load_pictures(media: Sequence[bytes], size: tuple[int, ...], frame_stride: int = 1) -> Tensor:
    """Encoded pictures or videos as `load_picture` gives them, uint8 (B, 3, H, W) or (B, 3, T, H, W)."""
    arrays = [load_picture(one, size, frame_stride) for one in media]
    return torch.from_numpy(np.stack(arrays)).movedim(-1, 1).contiguous()
