"""Tasks on files that others released: one question an episode, about pictures below the folder that holds the files.

A task draws names of pictures and text alone; their words come from `PictureWords`, which whoever has a model supplies.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from spae.data.media import MediaError
from spae.incontext.episodes import Episode, Question
from spae.incontext.language_model import AnswerLimits, Prompt


class PictureWords(Protocol):
    """Pictures as the words that a model writes them in."""

    @property
    def depth(self) -> int:
        """Layers that the model has."""

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
    """

    folder: str
    words: PictureWords
    layers: int
    seed: int = 0
    form: str = "lqae"


@dataclass(frozen=True, kw_only=True)
class Draw:
    """An episode before its pictures are read.

    Attributes:
        support: pictures of the examples.
        query: the picture asked about.
        target: the right answer.
        prompt: of the words of the support's pictures and of the query's.
    """

    support: tuple[str, ...]
    query: str
    target: str
    prompt: Callable[[Sequence[str], str], Prompt]

    @property
    def pictures(self) -> tuple[str, ...]:
        """All, the query's last."""
        return (*self.support, self.query)


class ReleasedTask(ABC):
    """What tasks on released files share: a picture that cannot be read costs the question that needs it.

    Args:
        data: files, pictures and seed.
    """

    def __init__(self, data: ReleasedData) -> None:
        self.data = data

    @property
    @abstractmethod
    def name(self) -> str:
        """As in `Task`."""

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

    def layers(self, setting: str) -> int:
        """Layers whose words a setting tells."""
        return self.data.layers

    def prepare(self, setting: str, numbers: Iterable[int]) -> None:
        """Read the pictures of these episodes together."""
        drawn = (self.draw(setting, number).pictures for number in numbers)
        pictures = dict.fromkeys(picture for some in drawn for picture in some)
        self.data.words.read(list(pictures), self.layers(setting))

    def episode(self, setting: str, number: int) -> Episode:
        """The question of this number, or why it cannot be asked; ValueError as in `draw`."""
        draw = self.draw(setting, number)
        texts, problems = list[str](), list[str]()
        for picture, text in zip(draw.pictures, self.data.words.read(draw.pictures, self.layers(setting)), strict=True):
            if isinstance(text, MediaError):
                problems.append(f"picture {picture!r}: {text}")
            else:
                texts.append(text)
        prompt = Prompt("", "") if problems else draw.prompt(texts[:-1], texts[-1])
        question = Question(draw.query, prompt, draw.target, "; ".join(problems))
        return Episode(number, draw.support, (question,))
