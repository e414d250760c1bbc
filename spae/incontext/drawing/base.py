"""What drawing tasks are made of."""

from dataclasses import dataclass
from typing import Protocol

from spae.incontext.drawing.drawer import DrawingRequest, DrawnExample
from spae.incontext.tasks.base import EpisodeSource
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
        given: words of the damaged picture, where one is to be mended.
    """

    key: str
    condition: str
    target: str
    known: tuple[int, ...] = ()
    ids: tuple[int, ...] | None = None
    given: tuple[int, ...] | None = None


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


class DrawingTask(EpisodeSource, Protocol):
    """Makes episodes that depend on their number alone; by guessing a drawing shows the right class, or nothing."""

    def episode(self, setting: str, number: int) -> DrawingEpisode:
        """Episode of this number; ValueError where the data cannot give one."""
