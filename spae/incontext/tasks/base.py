"""What every task offers to `jobs.incontext`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from spae.incontext.episodes import Episode
from spae.incontext.language_model import AnswerLimits


class EpisodeSource(Protocol):
    """What tasks that ask and tasks that draw pictures have in common."""

    @property
    def name(self) -> str:
        """Such as few-shot; names the task's folder."""

    @property
    def settings(self) -> Sequence[str]:
        """Its columns, such as 5-way-3-shot."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What makes its rows beside the flags, for the footer of its files."""

    def chance(self, setting: str) -> float | None:
        """What guessing gives, where that means something."""


class Task(EpisodeSource, Protocol):
    """Draws episodes that depend on their number alone, and scores answers."""

    def limits(self, setting: str) -> AnswerLimits:
        """How an answer is asked for."""

    def prepare(self, setting: str, numbers: Iterable[int]) -> None:
        """Read what these episodes need together, where that is faster than one by one."""

    def episode(self, setting: str, number: int) -> Episode:
        """Episode of this number; ValueError where the data cannot give one."""

    def parse(self, answer: str) -> str:
        """What is compared with the target."""

    def score(self, parsed: str, target: str) -> float:
        """From 0 to 1."""

    def corpus_scores(self, answers: Iterable[tuple[str, str]]) -> Mapping[str, float]:
        """By name, what is measured of all parsed answers and targets together, if anything."""
