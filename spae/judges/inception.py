"""InceptionV3 as FID and the Inception score want it: TensorFlow's network and resizing, from torch-fidelity.

Its weights are the ones of 2015 in torch-fidelity's and pytorch-fid's file, whose 1,008 logits are taken without their
bias, as the score was defined. torch-fidelity's own loader would unpickle whatever the file holds: only its blocks and
its resizing are taken.
"""

from collections import OrderedDict

from torch import Tensor, nn

from spae.judges.base import FRECHET, INCEPTION, Judge, JudgeRecord, View
from spae.judges.weights import Weights

SIDE = 299
PREPROCESSING = "uint8, TensorFlow 1's bilinear resize to 299 x 299 without antialiasing, (x - 128) / 128"


class InceptionV3(Judge):
    """FID's 2,048 pooled features, and logits (B, 1008) without bias."""

    def __init__(self, record: JudgeRecord, weights: Weights) -> None:
        super().__init__(record)
        self.network, self.fc = inception_network(), nn.Linear(2048, 1008)
        head = {name: tensor for name, tensor in weights.tensors.items() if name.startswith("fc.")}
        body = {f"network.{name}": tensor for name, tensor in weights.tensors.items() if name not in head}
        try:
            self.load_state_dict({**body, **head})
        except RuntimeError as error:
            raise ValueError(f"these are not the weights of FID's InceptionV3: {str(error)[:500]}") from error
        self.freeze()

    def forward(self, pixels: Tensor) -> View:
        """Features and logits of uint8 pictures (B, 3, H, W)."""
        from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x as resize

        resized = resize(pixels.float(), size=(SIDE, SIDE), align_corners=False)
        features = self.network((resized - 128) / 128)
        return View(features, features @ self.fc.weight.T)


def inception_network() -> nn.Sequential:
    """The network up to its pooled features (B, 2048), with random weights."""
    from torch_fidelity import feature_extractor_inceptionv3 as blocks

    basic, c = blocks.BasicConv2d, blocks.InceptionC
    layers = [
        ("Conv2d_1a_3x3", basic(3, 32, kernel_size=3, stride=2)),
        ("Conv2d_2a_3x3", basic(32, 32, kernel_size=3)),
        ("Conv2d_2b_3x3", basic(32, 64, kernel_size=3, padding=1)),
        ("MaxPool_1", nn.MaxPool2d(kernel_size=3, stride=2)),
        ("Conv2d_3b_1x1", basic(64, 80, kernel_size=1)),
        ("Conv2d_4a_3x3", basic(80, 192, kernel_size=3)),
        ("MaxPool_2", nn.MaxPool2d(kernel_size=3, stride=2)),
        ("Mixed_5b", blocks.InceptionA(192, pool_features=32)),
        ("Mixed_5c", blocks.InceptionA(256, pool_features=64)),
        ("Mixed_5d", blocks.InceptionA(288, pool_features=64)),
        ("Mixed_6a", blocks.InceptionB(288)),
        *(
            (f"Mixed_6{name}", c(768, channels_7x7=width))
            for name, width in zip("bcde", (128, 160, 160, 192), strict=True)
        ),
        ("Mixed_7a", blocks.InceptionD(768)),
        ("Mixed_7b", blocks.InceptionE_1(1280)),
        ("Mixed_7c", blocks.InceptionE_2(2048)),
        ("AvgPool", nn.AdaptiveAvgPool2d(1)),
        ("Flatten", nn.Flatten()),
    ]
    return nn.Sequential(OrderedDict(layers))


FIGURES = {FRECHET: "FID", INCEPTION: "IS"}
