"""Clips of videos, or single frames of them, as a model takes them."""

import numpy as np
from numpy.typing import NDArray

from spae.data.media import MediaError, fit_image
from spae.data.video import ClipShape, check_video, decode_clips


def fitted_clips(data: bytes, size: tuple[int, ...], clips: int, stride: int = 1) -> list[NDArray[np.uint8]]:
    """Clips of a video at the size of a model's input, decoded in one pass.

    One lies in the middle of the video, more are evenly spaced from its first frame to its last, no two the same.

    Args:
        data: the video file.
        size: (T, H, W) of a clip, or (H, W) of single frames.
        clips: how many.
        stride: how many frames further in the video each next frame of a clip lies.

    Returns:
        uint8 (T, H, W, 3) each, of frames (H, W, 3); short side resized, centre crop.

    Raises:
        MediaError: the video is damaged, or too short for so many.
    """
    shape = ClipShape(size[0] if len(size) == 3 else 1, stride)
    if clips > 1 and (there := len(check_video(data).times)) < shape.span + clips - 1:
        raise MediaError("too short", f"{there} of {shape.span + clips - 1} frames")
    places = [number / (clips - 1) for number in range(clips)] if clips > 1 else [0.5]
    sides = (size[-2], size[-1])
    made = [np.stack([fit_image(frame, sides) for frame in clip]) for clip in decode_clips(data, shape, places)]
    return made if len(size) == 3 else [clip[0] for clip in made]
