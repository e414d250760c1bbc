"""What people give `encode`, as the pixels of one batch."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spae.data.media import fit_image, to_rgb

_ROUNDING = 1e-3

Clip = Tensor | Sequence[Image.Image]
PictureInput = Tensor | Image.Image | Sequence[Image.Image] | Sequence[Clip]


def stack_pictures(pictures: PictureInput, input_size: tuple[int, ...]) -> Tensor:
    """Pictures or clips as uint8, or float in [0, 1], (B, 3, *input_size); PIL images are cropped and resized.

    ValueError says what a model of this input size takes where they are something else.
    """
    pixels = _stack(pictures, input_size)
    if tuple(pixels.shape[1:]) != (3, *input_size):
        raise ValueError(f"pixels of shape {tuple(pixels.shape)} {_remedy(tuple(pixels.shape), input_size)}")
    if pixels.is_floating_point():
        _check_range(pixels)
    return pixels


def _stack(pictures: PictureInput, input_size: tuple[int, ...]) -> Tensor:
    if isinstance(pictures, Tensor):
        return pictures
    items = [pictures] if isinstance(pictures, Image.Image) else list(pictures)
    tensors = [_one(item, input_size) for item in items]
    if len({tensor.shape for tensor in tensors}) > 1:
        shapes = sorted({tuple(tensor.shape) for tensor in tensors})
        raise ValueError(f"pictures of the shapes {shapes} make no batch; all must be {(3, *input_size)}")
    return torch.stack(tensors) if tensors else torch.empty(0, 3, *input_size, dtype=torch.uint8)


def _one(item: Image.Image | Clip, input_size: tuple[int, ...]) -> Tensor:
    """A picture (3, H, W) or a clip (3, T, H, W)."""
    if isinstance(item, Tensor):
        return item
    frames = [item] if isinstance(item, Image.Image) else list(item)
    if not frames:
        raise ValueError("a clip without frames; give those of the model")
    size = (input_size[-2], input_size[-1])
    clip = torch.from_numpy(np.stack([fit_image(to_rgb(frame), size) for frame in frames])).permute(3, 0, 1, 2)
    return clip[:, 0] if isinstance(item, Image.Image) else clip


def _remedy(shape: tuple[int, ...], input_size: tuple[int, ...]) -> str:
    expected = ", ".join(map(str, (3, *input_size)))
    if len(input_size) == 2 and len(shape) == 5:
        return (
            f"are clips, and this model takes pictures (B, {expected}): give it the frames, "
            "pixels.movedim(2, 1).flatten(0, 1), or use a video model"
        )
    if len(input_size) == 3 and len(shape) == 4:
        return f"are pictures, and this model takes clips (B, {expected}), as a tensor or a list of clips"
    if len(input_size) == 3 and len(shape) == 5 and shape[2] != input_size[0]:
        return (
            f"have {shape[2]} frames, and this model takes clips of {input_size[0]}: (B, {expected}); cut longer ones, "
            "as by pixels[:, :, begin:end], shorter ones do not fit"
        )
    return f"must be (B, {expected}); PIL images are resized for you"


def _check_range(pixels: Tensor) -> None:
    """ValueError unless float pixels lie in [0, 1], up to the rounding of a resize."""
    if not pixels.numel():
        return
    low, high = (float(value) for value in pixels.aminmax())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise ValueError(
            f"float pixels lie in [{low:g}, {high:g}]; they must be finite and in [0, 1]: divide by 255, or clamp"
        )
