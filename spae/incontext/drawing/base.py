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
    """Examples and the queries that share them.

    Attributes:
        number: of the episode.
        support_keys: of the examples.
        examples: in the order of the prompt.
        queries: what is asked for.
        names: of each example's class, where those of a query's class shall come last in its prompt.
    """

    number: int
    support_keys: tuple[str, ...]
    examples: tuple[DrawnExample, ...]
    queries: tuple[DrawingQuery, ...]
    names: tuple[str, ...] | None = None

    @property
    def requests(self) -> list[DrawingRequest]:
        """What is asked of a drawer."""
        return [DrawingRequest(self._ordered(query), query.condition, query.known) for query in self.queries]

    def _ordered(self, query: DrawingQuery) -> tuple[DrawnExample, ...]:
        if self.names is None:
            return self.examples
        named = sorted(zip(self.names, self.examples, strict=True), key=lambda one: one[0] == query.target)
        return tuple(example for _, example in named)


class DrawingTask(EpisodeSource, Protocol):
    """Makes episodes that depend on their number alone; by guessing a drawing shows the right class, or nothing."""

    def episode(self, setting: str, number: int) -> DrawingEpisode:
        """Episode of this number; ValueError where the data cannot give one."""
