"""Metrics that add up: update with batches, merge the parts of several processes, compute once.

Sums are kept in float64 or integers, so that the order of batches does not show in the figures. Nothing here grows with
the number of pictures, except where a docstring says so.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result", covariant=True)
Summed = TypeVar("Summed", contravariant=True)


class Metric(Protocol[Summed, Result]):
    """One object for one process, Ray Data and all-reduce."""

    def update(self, batch: Summed, /) -> None:
        """Count a batch."""

    def merge(self, other: Self) -> None:
        """Add what another counted."""

    def compute(self) -> Result:
        """The figures; ValueError where nothing was counted."""


class Sums:
    """A metric whose state is sums: two of them merge by addition, and what one counted can be stored.

    Attributes:
        SUMS: names of attributes that are numbers or tensors.
        PARTS: names of attributes that are such metrics, mappings of them, or None.
    """

    SUMS: ClassVar[tuple[str, ...]] = ()
    PARTS: ClassVar[tuple[str, ...]] = ()

    def merge(self, other: Self) -> None:
        """Add what another of the same kind counted."""
        for name in self.SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        others = dict(other._parts())
        for name, part in self._parts():
            part.merge(others[name])

    def state(self) -> dict[str, Tensor]:
        """All sums by dotted names, numbers as tensors of int64 or float64."""
        own = {name: _as_tensor(getattr(self, name)) for name in self.SUMS}
        return own | {f"{at}.{name}": value for at, part in self._parts() for name, value in part.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state, without the sums of parts that this metric lacks; KeyError where one is missing."""
        for name in self.SUMS:
            value = state[name]
            setattr(self, name, value if isinstance(getattr(self, name), Tensor) else value.item())
        for at, part in self._parts():
            own = {name.removeprefix(f"{at}."): value for name, value in state.items() if name.startswith(f"{at}.")}
            part.restore(own)

    def _parts(self) -> "Iterator[tuple[str, Sums]]":
        for name in self.PARTS:
            value = getattr(self, name)
            if isinstance(value, Mapping):
                yield from ((f"{name}.{key}", part) for key, part in value.items())
            elif value is not None:
                yield name, value


def _as_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)


@dataclass(frozen=True)
class Share:
    """A share of samples with its 95% interval by Wilson's formula."""

    share: float
    low: float
    high: float
    correct: int
    samples: int


def wilson(correct: int, samples: int) -> Share:
    """The share correct / samples and its 95% interval, which is sensible near 0 and 1 too."""
    z2 = 1.959964**2
    share = correct / samples
    centre = (share + z2 / (2 * samples)) / (1 + z2 / samples)
    half = math.sqrt(z2 * (share * (1 - share) / samples + z2 / (4 * samples**2))) / (1 + z2 / samples)
    return Share(share, max(centre - half, 0.0), min(centre + half, 1.0), correct, samples)


def counted(count: int, what: str) -> int:
    """The count; ValueError where it is 0."""
    if count == 0:
        raise ValueError(f"no {what} were counted; call update first, or give a split that holds some")
    return count
