"""EfficientNet-Lite0 with ImageNet's classes: a small real classifier whose weights a package ships (17 MB).

Its figures are its own: like FID, Inception score and LPIPS in kind, and not comparable with theirs in value.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from spae.judges.base import DISTANCE, FRECHET, INCEPTION, Judge, JudgeRecord, View
from spae.judges.weights import Weights, fit_weights

SIDE = 224
PREPROCESSING = "uint8, antialiased bilinear resize to 224 x 224, (x - 127) / 128"
FIGURES = {
    FRECHET: "Frechet distance",
    INCEPTION: "Inception-style score",
    DISTANCE: "LPIPS-style distance",
}
_STAGES = (
    (16, 1, 1, 3, 1),
    (24, 2, 2, 3, 6),
    (40, 2, 2, 5, 6),
    (80, 3, 2, 3, 6),
    (112, 3, 1, 5, 6),
    (192, 4, 2, 5, 6),
    (320, 1, 1, 3, 6),
)
"""Channels, blocks, stride of the first, kernel, expansion."""
_TAPPED = (0, 2, 4, 10, 15)  # the last block of each resolution
_EPSILON = 1e-3


class EfficientNetLite0(Judge):
    """Features (B, 1280), logits (B, 1000), activations at five resolutions."""

    def __init__(self, record: JudgeRecord, weights: Weights) -> None:
        super().__init__(record)
        self.network = EfficientNetLite0Network()
        fit_weights(self.network, weights.tensors, "EfficientNet-Lite0")
        self.freeze()

    def forward(self, pixels: Tensor) -> View:
        """All three of uint8 pictures (B, 3, H, W)."""
        return self.network(pixels.float())

    def logits(self, pixels: Tensor, side: int = SIDE) -> Tensor:
        """Logits (B, 1000) of pixels in [0, 1], brought to side x side; gradients pass to them.

        At 96 it takes a fifth of the operations, and sees less.
        """
        logits = self.network(255 * pixels, side).logits
        assert logits is not None
        return logits


class EfficientNetLite0Network(nn.Module):
    """From values of 0 to 255, of any size; gradients pass."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Convolution(3, 32, 3, stride=2)
        blocks, width = [], 32
        for channels, count, stride, kernel, expansion in _STAGES:
            for number in range(count):
                blocks.append(_Block(width, channels, kernel, 1 if number else stride, expansion))
                width = channels
        self.blocks = nn.ModuleList(blocks)
        self.head, self.classifier = _Convolution(320, 1280, 1), nn.Linear(1280, 1000)

    def forward(self, values: Tensor, side: int = SIDE) -> View:
        """What it sees in (B, 3, H, W), brought to side x side."""
        resized = F.interpolate(values, (side, side), mode="bilinear", antialias=True, align_corners=False)
        hidden, maps = self.stem((resized - 127) / 128), []
        for number, block in enumerate(self.blocks):
            hidden = block(hidden)
            if number in _TAPPED:
                maps.append(hidden)
        features = self.head(hidden).mean((2, 3))
        return View(features, self.classifier(features), tuple(maps))


class _Block(nn.Module):
    """Inverted bottleneck: wider, by channel, narrower; added to its input where both are of one shape."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        wider = [_Convolution(inputs, width, 1)] if expansion > 1 else []
        depthwise = _Convolution(width, width, kernel, stride=stride, groups=width)
        self.layers = nn.Sequential(*wider, depthwise, _Convolution(width, outputs, 1, active=False))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, hidden: Tensor) -> Tensor:
        made = self.layers(hidden)
        return hidden + made if self.adds else made


class _Convolution(nn.Module):
    """Convolution as TensorFlow pads it, batch norm, ReLU6."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=_EPSILON)
        self.kernel, self.stride, self.active = kernel, stride, active

    def forward(self, hidden: Tensor) -> Tensor:
        padding: list[int] = []
        for size in (hidden.shape[3], hidden.shape[2]):
            missing = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
            padding += [missing // 2, missing - missing // 2]
        made = self.norm(self.convolution(F.pad(hidden, padding)))
        return F.relu6(made) if self.active else made
