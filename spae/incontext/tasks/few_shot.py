"""Few-shot classification of pictures by their words (section 5.1, Tab. 1), on any labelled pictures.

An episode draws classes, examples of each from the support split, and queries of these classes from another split.
Names are the classes' own, made-up ones (as in Fast Open MiniImageNet: only the examples say what they mean), or those
of other things. Controls take away what an answer could be right by: a model that reads the words must fail then.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from spae.data.order import random_generator
from spae.incontext.episodes import Episode, Question
from spae.incontext.language_model import AnswerLimits
from spae.incontext.prompts import PROMPT_FORMS, SETTINGS, Example, Setting, classification_prompt
from spae.incontext.tasks.labelled import LabelledPictures, LabelledSplits
from spae.incontext.text import bare, one_line

NameKind = Literal["real", "made-up", "other"]

MADE_UP = ("dax", "blicket", "wug", "fep", "zup", "toma", "koba", "modi", "gazzer", "perpo")
"""Names that mean nothing; the first two are Frozen's."""
OTHERS = ("lion", "vase", "piano", "bridge", "candle", "ladder", "violin", "anchor", "kettle", "saddle")
"""Names of things that no picture shows, if none of them is a class."""


@dataclass(frozen=True, kw_only=True)
class FewShotTask:
    """Few-shot classification.

    Attributes:
        support: pictures that examples are drawn from.
        scored: pictures that are asked about.
        class_names: name of each label.
        seed: of all episodes.
        names: what classes are called in the prompt.
        form: wording, a name of PROMPT_FORMS.
        queries: asked about of one support.
        provenance: what the footer of its files says of the pictures.
    """

    support: LabelledPictures
    scored: LabelledPictures
    class_names: Mapping[int, str]
    seed: int = 0
    names: NameKind = "made-up"
    form: str = "lqae"
    queries: int = 8
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, splits: LabelledSplits, names: NameKind) -> "FewShotTask":
        """The task on two splits."""
        return cls(
            support=splits.support,
            scored=splits.scored,
            class_names=splits.class_names,
            seed=splits.seed,
            names=names,
            form=splits.form,
            queries=splits.queries,
            provenance=splits.provenance,
        )

    @property
    def name(self) -> str:
        """Such as few-shot-made-up."""
        return f"few-shot-{self.names}"

    @property
    def settings(self) -> Sequence[str]:
        """The fourteen of Tab. 1; each of them with + and a name of CONTROLS is one too."""
        return tuple(SETTINGS)

    def prepare(self, setting: str, numbers: Iterable[int]) -> None:
        """Nothing: the words are there."""

    def limits(self, setting: str) -> AnswerLimits:
        """Greedy free text, one line."""
        return AnswerLimits(most_tokens=PROMPT_FORMS[self.form].most_tokens)

    def chance(self, setting: str) -> float:
        """One of so many ways."""
        return 1 / _parted(setting)[0].ways

    def parse(self, answer: str) -> str:
        """The answer's first line, without case, quotes and punctuation around it."""
        return bare(answer.split("\n", 1)[0])

    def score(self, parsed: str, target: str) -> float:
        """1 where the whole answer is the name, else 0 (facts 5.1); an empty one is none."""
        return float(parsed == bare(target) != "")

    def corpus_scores(self, answers: Iterable[tuple[str, str]]) -> Mapping[str, float]:
        """Nothing."""
        return {}

    def episode(self, setting: str, number: int) -> Episode:
        """Classes, examples and queries of an episode; the same for every control and kind of name.

        ValueError for an unknown setting, and where a split has too few classes or examples.
        """
        chosen, control = _parted(setting)
        draw = random_generator(self.seed, number, f"few-shot {chosen.name}")
        classes = draw.permutation(self._classes(chosen.ways, chosen.shots))[: chosen.ways].tolist()
        rows = np.concatenate([draw.permutation(self.support.members[label])[: chosen.shots] for label in classes])
        rows = draw.permutation(rows).tolist()
        asked = [int(draw.choice(self.scored.members[classes[way]])) for way in self._ways(draw, chosen.ways)]
        names = self._names(classes, draw)
        examples = self._examples(rows, names, control, draw)
        told = [names[label] for label in classes]
        form = PROMPT_FORMS[self.form]
        questions = []
        for row in asked:
            target = names[int(self.scored.labels[row])]
            text = target if control == "names-as-words" else self._text(self.scored, row, control)
            prompt = classification_prompt(form, chosen, examples, told, text)
            questions.append(Question(self.scored.keys[row], prompt, target))
        return Episode(
            number,
            tuple(self.support.keys[row] for row in rows),
            tuple(questions),
            support_names=tuple(example.name for example in examples),
            names=tuple(map(one_line, told)),
        )

    def _text(self, pictures: LabelledPictures, row: int, control: str) -> str:
        return pictures.text(row, random_table=control == "random-table")

    def _classes(self, ways: int, shots: int) -> list[int]:
        """Labels that both splits know and the support has enough examples of."""
        known = [label for label, rows in self.support.members.items() if len(rows) >= shots]
        both = sorted(set(known) & set(self.scored.members) & set(self.class_names))
        if len(both) < ways:
            raise ValueError(
                f"{len(both)} classes have a name, a query and {shots} examples; {ways} ways need as many classes"
            )
        return both

    def _ways(self, draw: np.random.Generator, ways: int) -> list[int]:
        """Which class each query is of: each as often as any other, as far as the numbers allow."""
        rounds = -(-self.queries // ways)
        return draw.permutation(
            np.concatenate([draw.permutation(ways) for _ in range(rounds)])[: self.queries]
        ).tolist()

    def _names(self, classes: Sequence[int], draw: np.random.Generator) -> dict[int, str]:
        if self.names == "real":
            return {label: self.class_names[label] for label in classes}
        pool = MADE_UP if self.names == "made-up" else OTHERS
        if len(pool) < len(classes):
            raise ValueError(f"{len(classes)} ways need as many names; there are {len(pool)} {self.names} ones")
        return dict(zip(classes, draw.permutation(pool).tolist(), strict=False))

    def _examples(
        self, rows: Sequence[int], names: Mapping[int, str], control: str, draw: np.random.Generator
    ) -> list[Example]:
        texts = [self._text(self.support, row, control) for row in rows]
        told = [names[int(self.support.labels[row])] for row in rows]
        if control:
            texts, told = CONTROLS[control](texts, told, draw)
        return list(map(Example, texts, told))


def _parted(setting: str) -> tuple[Setting, str]:
    """A column of Tab. 1 and a control, or nothing; ValueError for what is none."""
    name, _, control = setting.partition("+")
    if name not in SETTINGS or (control and control not in CONTROLS):
        raise ValueError(
            f"setting {setting!r} is none of {', '.join(SETTINGS)}, each also with + and one of {', '.join(CONTROLS)}"
        )
    return SETTINGS[name], control


Texts = list[str]
_Change = Callable[[Texts, Texts, np.random.Generator], tuple[Texts, Texts]]


def _deal_anew(texts: Texts, draw: np.random.Generator) -> Texts:
    """Each text with as many words as before, drawn from the words of all."""
    lengths = [len(text.split()) for text in texts]
    words = draw.permutation([word for text in texts for word in text.split()]).tolist()
    ends = np.cumsum(lengths).tolist()
    return [" ".join(words[end - length : end]) for end, length in zip(ends, lengths, strict=True)]


CONTROLS: dict[str, _Change] = {
    "permuted-labels": lambda texts, names, draw: (texts, draw.permutation(names).tolist()),
    "shuffled-words": lambda texts, names, draw: (_deal_anew(texts, draw), names),
    "names-as-words": lambda texts, names, draw: (names, names),
    "random-table": lambda texts, names, draw: (texts, names),
}
"""What is taken away from examples, by name; names-as-words gives instead: a ceiling.

With random-table every word, of examples and queries alike, is told as another one, by one permutation of the whole
vocabulary: which words are equal stays, what they mean is gone.
"""
