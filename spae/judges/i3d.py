"""I3D of Kinetics-400, whose logits are FVD's features (facts 5.3): our own module, with any holder's weights.

Its layers are called as in the files rgb_imagenet.pt and i3d_pretrained_400.pt; weights of other names, as of the
TorchScript archive that most FVD code downloads, are fitted layer by layer.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spae.judges.base import FRECHET, Judge, JudgeRecord, View
from spae.judges.weights import Weights, fit_weights

SIDE = 224
PREPROCESSING = "uint8, TensorFlow 1's bilinear resize to 224 x 224, x / 127.5 - 1; logits, mean over time"
_MIXED = {
    "3b": (192, 64, 96, 128, 16, 32, 32),
    "3c": (256, 128, 128, 192, 32, 96, 64),
    "4b": (480, 192, 96, 208, 16, 48, 64),
    "4c": (512, 160, 112, 224, 24, 64, 64),
    "4d": (512, 128, 128, 256, 24, 64, 64),
    "4e": (512, 112, 144, 288, 32, 64, 64),
    "4f": (528, 256, 160, 320, 32, 128, 128),
    "5b": (832, 256, 160, 320, 32, 128, 128),
    "5c": (832, 384, 192, 384, 48, 128, 128),
}
"""Channels in, then of each convolution of a block."""


class I3D(Judge):
    """FVD's features (B, 400)."""

    OF_CLIPS = True

    def __init__(self, record: JudgeRecord, weights: Weights) -> None:
        super().__init__(record)
        self.network = I3DNetwork()
        fit_weights(self.network, weights.tensors, "I3D with 400 classes")
        self.freeze()

    def forward(self, pixels: Tensor) -> View:
        """Features of clips uint8 (B, 3, T, H, W), T at least 9."""
        from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x as resize

        frames = pixels.transpose(1, 2)
        resized = resize(frames.flatten(0, 1).float(), size=(SIDE, SIDE), align_corners=False)
        clips = resized.unflatten(0, frames.shape[:2]).transpose(1, 2)
        return View(self.network(clips / 127.5 - 1))


class I3DNetwork(nn.Module):
    """Inception-v1 inflated: clips (B, 3, T, 224, 224) in [-1, 1] to logits (B, classes), mean over time."""

    def __init__(self, classes: int = 400) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, 7, 2)
        self.MaxPool3d_2a_3x3 = _Pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = _Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = _Unit(64, 192, 3)
        self.MaxPool3d_3a_3x3 = _Pool((1, 3, 3), (1, 2, 2))
        for name, channels in _MIXED.items():
            if name in ("4b", "5b"):
                kernel = 3 if name == "4b" else 2
                self.add_module(f"MaxPool3d_{name[0]}a", _Pool((kernel,) * 3, (2, 2, 2)))
            self.add_module(f"Mixed_{name}", _Mixed(*channels))
        self.logits = nn.ModuleDict({"conv3d": nn.Conv3d(1024, classes, 1)})

    def forward(self, clips: Tensor) -> Tensor:
        """Logits; ValueError for clips too short for the last pool."""
        for name, layer in self.named_children():
            if name != "logits":
                clips = layer(clips)
        if clips.shape[2] < 2:
            raise ValueError("a clip for I3D must have at least 9 frames")
        pooled = F.avg_pool3d(clips, (2, 7, 7), stride=1)
        return self.logits["conv3d"](pooled)[..., 0, 0].mean(2)


class _Unit(nn.Module):
    """Convolution as TensorFlow pads it, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs)

    def forward(self, clips: Tensor) -> Tensor:
        padded = _same(clips, self.conv3d.kernel_size, self.conv3d.stride)
        return F.relu(self.bn(self.conv3d(padded)))


class _Pool(nn.Module):
    """Maximum of windows that are filled up with zeros; inputs are never below."""

    def __init__(self, kernel: tuple[int, ...], stride: tuple[int, ...]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, clips: Tensor) -> Tensor:
        return F.max_pool3d(_same(clips, self.kernel, self.stride), self.kernel, self.stride)


class _Mixed(nn.Module):
    """Four branches beside each other."""

    def __init__(self, inputs: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3b: int) -> None:
        super().__init__()
        self.b0 = _Unit(inputs, b0, 1)
        self.b1a, self.b1b = _Unit(inputs, b1a, 1), _Unit(b1a, b1b, 3)
        self.b2a, self.b2b = _Unit(inputs, b2a, 1), _Unit(b2a, b2b, 3)
        self.b3a, self.b3b = _Pool((3, 3, 3), (1, 1, 1)), _Unit(inputs, b3b, 1)

    def forward(self, clips: Tensor) -> Tensor:
        branches = self.b0(clips), self.b1b(self.b1a(clips)), self.b2b(self.b2a(clips)), self.b3b(self.b3a(clips))
        return torch.cat(branches, 1)


def _same(clips: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Zeros around (B, C, T, H, W) so that ceil(size / stride) windows fit, the odd one behind."""
    padding: list[int] = []
    for size, window, step in zip(reversed(clips.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        missing = max((-(-size // step) - 1) * step + window - size, 0)
        padding += [missing // 2, missing - missing // 2]
    return F.pad(clips, padding)


FIGURES = {FRECHET: "FVD"}
