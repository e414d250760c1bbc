"""Tasks on files that others released: one question an episode, about pictures below the folder that holds the files.

A task draws names of pictures and text alone; their words come from `PictureWords`, which whoever has a model supplies.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spae.data.media import MediaError
from spae.data.order import random_generator
from spae.incontext.episodes import Episode, Question
from spae.incontext.language_model import AnswerLimits, Prompt


class PictureWords(Protocol):
    """Pictures as the words that a model writes them in."""

    @property
    def depth(self) -> int:
        """Layers that the model has."""

    @property
    def fingerprint(self) -> str:
        """Of the model."""

    def read(self, pictures: Sequence[str], layers: int) -> list[str | MediaError]:
        """Of each picture, a path below the data's folder, its first layers as one line, or why it cannot be read."""


@dataclass(frozen=True, kw_only=True)
class ReleasedData:
    """What a task on released files is made of.

    Attributes:
        folder: by path or URL, with the released files and their pictures.
        words: of these pictures.
        layers: whose words are told.
        seed: of all episodes.
        form: wording of classification, a name of PROMPT_FORMS.
        baseline: the same pictures as another model writes them, for tasks that compare.
    """

    folder: str
    words: PictureWords
    layers: int
    seed: int = 0
    form: str = "lqae"
    baseline: PictureWords | None = None


@dataclass(frozen=True, kw_only=True)
class Draw:
    """An episode before its pictures are read.

    Attributes:
        support: pictures of the examples.
        query: the picture asked about.
        target: the right answer.
        prompt: of the words of the support's pictures and of the query's.
        support_names: what the examples are called, where they are called something.
        names: what an answer may be, where there is a choice.
    """

    support: tuple[str, ...]
    query: str
    target: str
    prompt: Callable[[Sequence[str], str], Prompt]
    support_names: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def pictures(self) -> tuple[str, ...]:
        """All, the query's last."""
        return (*self.support, self.query)


class ReleasedTask(ABC):
    """What tasks on released files share: a picture that cannot be read costs the question that needs it.

    Args:
        data: files, pictures and seed.
        name: of the task.
    """

    def __init__(self, data: ReleasedData, name: str) -> None:
        self.data, self.name = data, name

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The baseline, where there is one."""
        baseline = self.data.baseline
        return {"baseline_fingerprint": baseline.fingerprint} if baseline else {}

    @property
    @abstractmethod
    def settings(self) -> Sequence[str]:
        """As in `Task`."""

    @abstractmethod
    def limits(self, setting: str) -> AnswerLimits:
        """As in `Task`."""

    @abstractmethod
    def draw(self, setting: str, number: int) -> Draw:
        """What the episode asks; ValueError where there is none of this number."""

    @abstractmethod
    def parse(self, answer: str) -> str:
        """As in `Task`."""

    @abstractmethod
    def score(self, parsed: str, target: str) -> float:
        """As in `Task`."""

    def chance(self, setting: str) -> float | None:
        """Nothing, where answers are free text."""
        return None

    def corpus_scores(self, answers: Iterable[tuple[str, str]]) -> Mapping[str, float]:
        """Nothing, where a mean of scores tells all."""
        return {}

    def words(self, setting: str) -> tuple[PictureWords, int]:
        """Whose words a setting tells, and of how many layers."""
        return self.data.words, self.data.layers

    def place(self, name: str, number: int, count: int) -> int:
        """Which of `count` questions comes at `number` in an order by the seed; ValueError where there are fewer."""
        if number >= count:
            raise ValueError(
                f"{self.name} has {count} questions in {self.data.folder}; give --episodes {count} or less"
            )
        return int(random_generator(self.data.seed, 0, f"{name} order").permutation(count)[number])

    def prepare(self, setting: str, numbers: Iterable[int]) -> None:
        """Read the pictures of these episodes together."""
        drawn = (self.draw(setting, number).pictures for number in numbers)
        pictures = dict.fromkeys(picture for some in drawn for picture in some)
        words, layers = self.words(setting)
        words.read(list(pictures), layers)

    def episode(self, setting: str, number: int) -> Episode:
        """The question of this number, or why it cannot be asked; ValueError as in `draw`."""
        draw = self.draw(setting, number)
        words, layers = self.words(setting)
        read = dict(zip(draw.pictures, words.read(draw.pictures, layers), strict=True))
        problems = [f"picture {name[:80]!r}: {text}" for name, text in read.items() if isinstance(text, MediaError)]
        texts = [str(read[name]) for name in draw.pictures]
        prompt = Prompt("", "") if problems else draw.prompt(texts[:-1], texts[-1])
        question = Question(draw.query, prompt, draw.target, "; ".join(problems))
        return Episode(number, draw.support, (question,), draw.support_names, draw.names)
