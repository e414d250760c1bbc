"""Whether the ranks of a training still hold the same: all of them compute each update, and none is told another's."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from spae.collectives import world_size
from spae.training.state import TrainState

_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class ReplicaError(RuntimeError):
    """Ranks that should hold the same do not; the message names them and what differs."""


def check_replicas(state: TrainState) -> None:
    """Compare a checksum of every part of the state over the ranks; every rank must call it.

    The checksum is the sum of the bit patterns as integers, which any single damaged value changes. It reads the state
    once, and the ranks exchange one number a part.

    Raises:
        ReplicaError: on every rank alike.
    """
    if world_size() == 1:
        return
    parts = {name: part for name, part in state.parts().items() if part is not None}
    mine = torch.stack([_checksum(part, state.model.device) for part in parts.values()])
    found = [torch.empty_like(mine) for _ in range(world_size())]
    torch.distributed.all_gather(found, mine)
    sums = torch.stack(found).cpu()
    differs = sums != sums.mode(0).values
    if bool(differs.any()):
        ranks = differs.any(1).nonzero().flatten().tolist()
        names = [name for name, one in zip(parts, differs.any(0).tolist(), strict=True) if one]
        raise ReplicaError(
            f"at step {state.step} ranks {ranks} of {world_size()} hold another {', '.join(names)} than the others; "
            "the run goes on from its last checkpoint, and if it comes again, leave the machines of these ranks out"
        )


def _checksum(part: object, device: torch.device) -> Tensor:
    total = torch.zeros((), dtype=torch.int64, device=device)
    for tensor in _tensors(part):
        total += tensor.detach().view(_WORDS[tensor.element_size()]).sum(dtype=torch.int64).to(device)
    return total


def _tensors(part: object) -> Iterator[Tensor]:
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, (Mapping, list, tuple)):
        for inner in part.values() if isinstance(part, Mapping) else part:
            yield from _tensors(inner)
