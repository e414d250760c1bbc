"""LPIPS: how unlike two pictures look to AlexNet or VGG16, as the package lpips measures it.

The heads, which people's judgements taught, come with the package; the backbone's weights are torchvision's.
"""

import warnings
from typing import Literal

import torch
from torch import Tensor

from spae.judges.base import DISTANCE, Judge, JudgeRecord, View
from spae.judges.weights import Weights

PREPROCESSING = "uint8, x / 127.5 - 1, at the pictures' own size"


class Lpips(Judge):
    """Version 0.1 of the package.

    Args:
        record: of the backbone.
        weights: torchvision's of the whole classifier; its convolutions are taken.
        backbone: as the package calls it.
    """

    def __init__(self, record: JudgeRecord, weights: Weights, backbone: Literal["alex", "vgg"]) -> None:
        super().__init__(record)
        import lpips

        with warnings.catch_warnings():  # it calls torchvision in an older way
            warnings.simplefilter("ignore", UserWarning)
            self.network = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
        self._normalized = lpips.normalize_tensor
        places = {name.split(".", 1)[1]: name for name in self.network.net.state_dict()}  # by the number of the layer
        found = {
            places[name]: tensor
            for whole, tensor in weights.tensors.items()
            if (name := whole.removeprefix("features.")) in places and whole.startswith("features.")
        }
        try:
            self.network.net.load_state_dict(found)
        except RuntimeError as error:
            raise ValueError(
                f"these are not torchvision's weights of LPIPS's {backbone}: {str(error)[:500]}"
            ) from error
        self.freeze()

    def forward(self, pixels: Tensor) -> View:
        """Unit-length activations of uint8 pictures (B, 3, H, W)."""
        outputs = self.network.net(self.network.scaling_layer(pixels.float() / 127.5 - 1))
        return View(maps=tuple(self._normalized(one) for one in outputs))

    def distances(self, one: View, other: View) -> Tensor:
        """LPIPS of each pair, (B,)."""
        parts = [
            head((a - b) ** 2).mean((2, 3)) for head, a, b in zip(self.network.lins, one.maps, other.maps, strict=True)
        ]
        return torch.stack(parts).sum(0)[:, 0]


FIGURES = {DISTANCE: "LPIPS"}
