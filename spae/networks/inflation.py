"""Weights of image networks as the first weights of the same networks for clips (facts 2.4)."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Inflation = Literal["central", "averaged"]
"""central: a kernel stands in the middle frame, zeros around it. averaged: a share of it in each frame.

With central kernels a still clip is to the inflated networks what its picture is to the image's, at every frame. With
averaged ones that holds only where frames are padded with copies of the border frame: the zeros that convolutions pad
with make the first and last frame of each convolution two thirds of the others, and group norms, whose statistics run
over all frames, spread that to every frame.
"""


def inflate_weights(image: Mapping[str, Tensor], clip: Mapping[str, Tensor], kernels: Inflation) -> dict[str, Tensor]:
    """The state of networks for clips from that of the same networks for images.

    Statistics of a position hold at every frame.

    Args:
        image: state of the image networks.
        clip: a state of the networks for clips, for its names and shapes.
        kernels: where a kernel goes.

    Raises:
        ValueError: the two are not the same networks.
    """
    if image.keys() != clip.keys():
        raise ValueError(f"only one of image and video model has {sorted(image.keys() ^ clip.keys())}")
    return {name: _inflate(name, image[name], clip[name].shape, kernels) for name in clip}


def _inflate(name: str, image: Tensor, shape: torch.Size, kernels: Inflation) -> Tensor:
    if image.shape == shape:
        return image.clone()
    if image.ndim == 4:  # a convolution's (out, in, height, width), frames before the height
        frames = shape[2]
        inflated = (image / frames).unsqueeze(2).repeat(1, 1, frames, 1, 1)
        if kernels == "central":
            inflated = torch.zeros_like(inflated)
            inflated[:, :, frames // 2] = image
    elif image.ndim == 3:  # statistics (C, height, width)
        inflated = image.unsqueeze(1).repeat(1, shape[1], 1, 1)
    else:
        inflated = image
    if inflated.shape != shape:
        raise ValueError(f"{name} is {tuple(image.shape)} in the image model and {tuple(shape)} in the video model")
    return inflated
