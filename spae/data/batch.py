"""What a step of training is given; how it is read is the business of `spae/data/loader.py`."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Samples of one step.

    Attributes:
        pixels: uint8 (B, 3, H, W), of clips (B, 3, T, H, W).
        draws: float32 (B, n) uniform in [0, 1), from which the semantic targets are picked.
        keys: key of each sample.
        numbers: number n of each sample in the run.
        undecodable: how many of the samples could not be decoded; grey stands in for them.
        whole: samples of the step on all ranks together; None where every rank has as many as this one.
    """

    pixels: Tensor
    draws: Tensor
    keys: tuple[str, ...]
    numbers: tuple[int, ...]
    undecodable: int = 0
    whole: int | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        pixels, draws = (x.to(device, non_blocking=True) for x in (self.pixels, self.draws))
        return dataclasses.replace(self, pixels=pixels, draws=draws)
