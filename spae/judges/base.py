"""What every judge is: a frozen network, the record of where it comes from, and how it sees pictures."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

FRECHET, INCEPTION, DISTANCE = "frechet", "inception_score", "distance"
"""What can be measured: by features, by class logits, and by comparing two pictures."""


@dataclass(frozen=True, kw_only=True)
class JudgeRecord:
    """Where a judge comes from and how it is asked: what figures must share to be compared.

    Attributes:
        name: in the catalogue.
        sha256: of its weights' file, or of the weights where there is no file.
        licence, source: of the weights.
        preprocessing: what happens to uint8 pictures before the network.
        figures: the name of each figure that it gives, by what is measured (`FRECHET`, `INCEPTION`, `DISTANCE`).
        comparable: whether others can have figures to compare with; False for random networks.
    """

    name: str
    sha256: str
    licence: str
    source: str
    preprocessing: str
    figures: Mapping[str, str]
    comparable: bool = True


@dataclass(frozen=True)
class View:
    """What a judge sees in B pictures: None or nothing where it does not look for it.

    Attributes:
        features: (B, E), for Frechet distances.
        logits: (B, classes), for Inception scores.
        maps: activations (B, C, h, w) of some layers, for distances of two pictures.
    """

    features: Tensor | None = None
    logits: Tensor | None = None
    maps: tuple[Tensor, ...] = ()


class Judge(nn.Module):
    """A frozen network that measures pictures uint8 (B, 3, H, W), or clips (B, 3, T, H, W).

    Attributes:
        OF_CLIPS: whether it measures clips; of a clip others see each frame by itself.
    """

    OF_CLIPS: ClassVar[bool] = False

    def __init__(self, record: JudgeRecord) -> None:
        super().__init__()
        self.record = record

    def freeze(self) -> None:
        """Evaluation mode for good, without gradients to the weights; called once they are there."""
        self.train(False).requires_grad_(False)

    def train(self, mode: bool = True) -> "Judge":
        """Stays in evaluation mode: batch norms use the statistics that they were trained to."""
        return super().train(False)

    @abstractmethod
    def forward(self, pixels: Tensor) -> View:
        """What it sees in uint8 pictures."""

    def distances(self, one: View, other: View) -> Tensor:
        """How unlike two pictures look, (B,); for judges whose figures have a distance.

        Here: the squared difference of unit-length activations, mean over positions, sum over layers, as LPIPS does it
        without learnt weights.
        """
        differences = (
            (unit_channels(a) - unit_channels(b)).square().sum(1).mean((1, 2))
            for a, b in zip(one.maps, other.maps, strict=True)
        )
        return sum(differences, one.maps[0].new_zeros(len(one.maps[0])))


def unit_channels(maps: Tensor) -> Tensor:
    """Activations (B, C, h, w) at unit length over the channels."""
    return maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)
