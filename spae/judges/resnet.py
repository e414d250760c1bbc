"""Frozen networks that judge pictures, pinned by checksum: the perceptual ResNet-50 (facts 8.11).

Weights come from a local file, read without pickle, or by a torchvision tag from its hub. torchvision is imported where
it is used: with torch's compiler it takes 5 s a process.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spae.judges.weights import read_weights, weights_sha256

_SIDE = 224
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PerceptualNetwork(nn.Module):
    """ResNet-50 trained on ImageNet, frozen and in evaluation mode; gradients pass to the pixels.

    Args:
        weights: torchvision's state dict of resnet50.

    Attributes:
        sha256: of the weights in the order of their names.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        from torchvision.models import resnet50

        classes = weights["fc.bias"].shape[0] if "fc.bias" in weights else 1000
        self.classifier = resnet50(num_classes=classes)
        try:
            self.classifier.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"these are not the weights of torchvision's resnet50: {str(error)[:500]}") from error
        self.sha256 = weights_sha256(self.classifier)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(_STD)[:, None, None])
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "PerceptualNetwork":
        """Stays in evaluation mode: its batch norms use the statistics of ImageNet."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, classes) of pixels (B, 3, H, W) in [0, 1], resized to 224 by 224."""
        resized = F.interpolate(pixels, (_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False)
        return self.classifier((resized - self.mean) / self.std)


def load_perceptual(weights: str, device: torch.device | str = "cpu") -> PerceptualNetwork:
    """The perceptual network.

    Args:
        weights: a file, .safetensors or torch's own, or a tag of torchvision to download, such as IMAGENET1K_V2.
        device: where it shall run.

    Raises:
        ValueError: no such file or tag, or weights of another network.
    """
    return PerceptualNetwork(_read(weights)).to(device)


def _read(weights: str) -> Mapping[str, Tensor]:
    return read_weights(weights).tensors if Path(weights).is_file() else _download(weights)


def _download(tag: str) -> Mapping[str, Tensor]:
    from torchvision.models import ResNet50_Weights

    if tag not in ResNet50_Weights.__members__:
        raise ValueError(f"{tag!r} is neither a file nor one of {sorted(ResNet50_Weights.__members__)}")
    try:
        return ResNet50_Weights[tag].get_state_dict(progress=True, check_hash=True)
    except OSError as error:
        raise ValueError(f"the weights {tag} cannot be downloaded ({error}); give a file instead") from error
