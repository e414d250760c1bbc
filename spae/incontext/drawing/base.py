"""What drawing tasks are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spae.incontext.drawing.drawer import DrawingRequest, DrawnExample
from spae.incontext.tasks.labelled import LabelledPictures


class DrawnPictures(LabelledPictures, Protocol):
    """Labelled pictures and the ids of their words."""

    def ids(self, row: int) -> tuple[int, ...]:
        """Of a picture's first layers, layer by layer."""


@dataclass(frozen=True)
class DrawingQuery:
    """A picture to draw.

    Attributes:
        key: of the picture that it is about, or what is asked for where there is none.
        condition: what it shall be.
        target: name of the class that it shall show.
        known: words of its first layers that need not be drawn.
        ids: words that are right, where there is such a picture.
    """

    key: str
    condition: str
    target: str
    known: tuple[int, ...] = ()
    ids: tuple[int, ...] | None = None


@dataclass(frozen=True)
class DrawingEpisode:
    """Examples and the queries that share them."""

    number: int
    support_keys: tuple[str, ...]
    examples: tuple[DrawnExample, ...]
    queries: tuple[DrawingQuery, ...]

    @property
    def requests(self) -> list[DrawingRequest]:
        """What is asked of a drawer."""
        return [DrawingRequest(self.examples, query.condition, query.known) for query in self.queries]


class DrawingTask(Protocol):
    """Draws episodes that depend on their number alone."""

    @property
    def name(self) -> str:
        """Such as draw-classes; names the task's folder."""

    @property
    def settings(self) -> Sequence[str]:
        """Its columns."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What makes its rows beside the flags, for the footer of its files."""

    def episode(self, setting: str, number: int) -> DrawingEpisode:
        """Episode of this number; ValueError where the data cannot give one."""

    def chance(self, setting: str) -> float | None:
        """Share of drawings that would show the right class by guessing, where that means something."""
