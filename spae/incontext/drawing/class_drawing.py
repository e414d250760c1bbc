"""Drawing pictures of classes (Fig. 6): examples with the names of what they show, then a name alone, or a sum.

The queries are worded as the examples, or lead to the name by a thought: `an image of 3+4`, `an image of the number
after six`. That takes classes whose names are numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spae.data.order import random_generator
from spae.incontext.drawing.base import DrawingEpisode, DrawingQuery, DrawnPictures
from spae.incontext.drawing.drawer import DrawnExample

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PERMUTED = "permuted-labels"
"""A control: what examples are said to show is dealt among them anew."""
ASKED_LAST = "asked-last"
"""A control: the examples of the class that is asked for come last, which no order of chance gives away."""
SHOTS = (1, 3, 5)


@dataclass(frozen=True)
class _Wording:
    """How a class is named, in examples and in queries; the latter may not have one for the first number."""

    example: Callable[[str], str]
    query: Callable[[str, np.random.Generator], str]
    first: int = 0
    of_numbers: bool = True


def _sum(name: str, draw: np.random.Generator) -> str:
    number = NUMBERS.index(name)
    part = int(draw.integers(number + 1))
    return f"an image of {part}+{number - part}"


_WORDINGS = {
    "": _Wording(lambda name: f"an image of {name}", lambda name, _: f"an image of {name}", of_numbers=False),
    "-sum": _Wording(lambda name: f"an image of {NUMBERS.index(name)}", _sum),
    "-successor": _Wording(
        lambda name: f"an image of {name}",
        lambda name, _: f"an image of the number after {NUMBERS[NUMBERS.index(name) - 1]}",
        first=1,
    ),
}


@dataclass(frozen=True, kw_only=True)
class ClassDrawing:
    """Pictures of named classes.

    Attributes:
        support: pictures that examples are drawn from.
        class_names: name of each label.
        seed: of all episodes.
        queries: drawn from one support, their classes as equally often as the number allows.
        provenance: what the footer of its files says of the pictures.
    """

    support: DrawnPictures
    class_names: Mapping[int, str]
    seed: int = 0
    queries: int = 8
    provenance: Mapping[str, Any] = field(default_factory=dict)
    name: str = "draw-classes"

    @property
    def settings(self) -> Sequence[str]:
        """So many examples a class, their names as words; with -sum and -successor for numbers; + makes a control."""
        return tuple(f"{shots}-shot{wording}" for wording in _WORDINGS for shots in SHOTS)

    def chance(self, setting: str) -> float:
        """One of all classes."""
        return 1 / len(self._labels(self._parted(setting)[1]))

    def episode(self, setting: str, number: int) -> DrawingEpisode:
        """Examples of all classes in an order of chance; the same for every wording and control.

        ValueError for an unknown setting, too few examples, and where names are no numbers but should be.
        """
        shots, wording, control = self._parted(setting)
        labels = self._labels(wording)
        draw = random_generator(self.seed, number, f"{self.name} {shots}")
        known = sorted(set(self.support.members) & set(self.class_names))
        if short := [label for label in known if len(self.support.members[label]) < shots]:
            raise ValueError(f"class {self.class_names[short[0]]} has fewer than {shots} examples")
        rows = np.concatenate([draw.permutation(self.support.members[label])[:shots] for label in known])
        rows = draw.permutation(rows).tolist()
        names = [self.class_names[int(self.support.labels[row])] for row in rows]
        asked = np.concatenate([draw.permutation(labels) for _ in range(-(-self.queries // len(labels)))])
        queries = []
        for label in asked[: self.queries].tolist():
            condition = wording.query(self.class_names[label], draw)
            queries.append(DrawingQuery(condition, condition, self.class_names[label]))
        if control == PERMUTED:
            names = draw.permutation(names).tolist()
        examples = tuple(
            DrawnExample(wording.example(name), self.support.ids(row)) for name, row in zip(names, rows, strict=True)
        )
        keys = tuple(self.support.keys[row] for row in rows)
        of_class = tuple(names) if control == ASKED_LAST else None
        return DrawingEpisode(number, keys, examples, tuple(queries), of_class)

    def _labels(self, wording: _Wording) -> list[int]:
        """Classes that can be asked for."""
        known = sorted(set(self.support.members) & set(self.class_names))
        if not wording.of_numbers:
            return known
        numbers = [label for label in known if self.class_names[label] in NUMBERS]
        if len(numbers) < len(known):
            other = next(self.class_names[label] for label in known if label not in numbers)
            raise ValueError(f"class {other!r} is none of {', '.join(NUMBERS)}, which sums and successors are of")
        return [label for label in numbers if NUMBERS.index(self.class_names[label]) >= wording.first]

    def _parted(self, setting: str) -> tuple[int, _Wording, str]:
        """Shots, wording and control, which may be empty; ValueError for what is no setting."""
        name, _, control = setting.partition("+")
        if name not in self.settings or control not in ("", PERMUTED, ASKED_LAST):
            known = ", ".join(self.settings)
            raise ValueError(f"setting {setting!r} is none of {known}, each also with +{PERMUTED} or +{ASKED_LAST}")
        shots, _, _ = name.partition("-")
        return int(shots), _WORDINGS[name.removeprefix(f"{shots}-shot")], control
