"""Memory and operations of training the video model against frames and size, without computing anything.

    python -m tests.benchmarks.bench_video_memory

Encoder and decoder of video-128 on the meta device, one clip of float32: what is held for the gradient (each storage
once, weights left out), with residual blocks that recompute and without, and operations of a step.
"""

import dataclasses
import json

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spae.networks import Decoder, Encoder, recompute_activations
from spae.networks.layers import ResidualBlock
from spae.presets import PRESETS

SIZES = [(8, 128), (16, 64), (16, 128), (32, 128), (16, 256)]
CARD = 80e9
STATE = 20
"""Bytes a parameter: weight, gradient, two averages of Adam, the moving average."""


class Held:
    """The storages that a pass holds for its gradient; `parameters` do not count."""

    def __init__(self, network: nn.Module) -> None:
        self._weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
        self._storages: dict[int, Tensor] = {}  # the tensors live on: else a later one could have the same number

    def note(self, tensor: Tensor) -> Tensor:
        if (number := tensor.untyped_storage()._cdata) not in self._weights:
            self._storages[number] = tensor
        return tensor

    @property
    def bytes(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self._storages.values())


def measured(frames: int, size: int, *, recomputes: bool) -> dict[str, float]:
    """Of one clip: GB held for the gradient, 10^12 operations of a pass and of a step, clips beside each other."""
    grid = (frames // 4, size // 8, size // 8)
    config = dataclasses.replace(PRESETS["video-128-vq"].model, input_size=(frames, size, size), grids=(grid,))
    with torch.device("meta"):
        network = nn.Sequential(Encoder(config), Decoder(config))
        clip = torch.empty(1, 3, frames, size, size)
    recompute_activations(network, recomputes)
    held = Held(network)
    for block in (module for module in network.modules() if isinstance(module, ResidualBlock)):
        block.register_forward_pre_hook(lambda module, inputs: (held.note(inputs[0]),))
    with FlopCounterMode(display=False) as operations:
        with torch.autograd.graph.saved_tensors_hooks(held.note, lambda tensor: tensor):
            rebuilt = network(clip)
        forward = operations.get_total_flops()
        rebuilt.sum().backward()
    state = STATE * sum(parameter.numel() for parameter in network.parameters())
    return {
        "GB a clip": round(held.bytes / 1e9, 2),
        "10^12 operations of a pass": round(forward / 1e12, 2),
        "of a step": round(operations.get_total_flops() / 1e12, 2),
        "clips in 80 GB": int((CARD - state) / held.bytes),
    }


def main() -> None:
    for frames, size in SIZES:
        for recomputes in (False, True):
            row = measured(frames, size, recomputes=recomputes)
            print(json.dumps({"frames": frames, "size": size, "recomputes": recomputes, **row}))  # noqa: T201


if __name__ == "__main__":
    main()
