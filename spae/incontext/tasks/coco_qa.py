"""COCO-QA, ten ways, one shot: ten examples with ten different answers, one of them the query's (section 5.3, Fig. 5).

Released as `train/` and `test/` with questions.txt, answers.txt and img_ids.txt, a question a line; pictures lie in
COCO's own folders beside them, `train2014/COCO_train2014_000000000009.jpg` and `val2014/COCO_val2014_...`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from spae.data.order import random_generator
from spae.incontext.language_model import AnswerLimits
from spae.incontext.prompts import Exchange, question_prompt
from spae.incontext.tasks.layer_sweep import LayerSweep
from spae.incontext.tasks.released import Draw
from spae.incontext.tasks.released_files import checked_text, read_file
from spae.incontext.tasks.vqa_answers import normalised_answer
from spae.incontext.text import one_line

WAYS = 10
_PICTURES = {"train": "train2014/COCO_train2014_{:012d}.jpg", "test": "val2014/COCO_val2014_{:012d}.jpg"}


@dataclass(frozen=True)
class _Question:
    picture: str
    question: str
    answer: str


class CocoQa(LayerSweep):
    """Questions about COCO's pictures, with examples from the training part."""

    def limits(self, setting: str) -> AnswerLimits:
        """Greedy free text, one line of 4 tokens (facts 3)."""
        return AnswerLimits(most_tokens=4)

    def chance(self, setting: str) -> float:
        """One of ten answers."""
        return 1 / WAYS

    def parse(self, answer: str) -> str:
        """The first line, as VQAv2 compares answers."""
        return normalised_answer(answer.split("\n", 1)[0])

    def score(self, parsed: str, target: str) -> float:
        """1 where both are one answer, else 0; what has no word is none."""
        return float(parsed == normalised_answer(target) != "")

    def draw(self, setting: str, number: int) -> Draw:
        """Question `number` of the test part in an order by the seed, of those whose answer an example can have."""
        self.words(setting)
        query = self._asked[self.place("coco-qa", number, len(self._asked))]
        draw = random_generator(self.data.seed, number, "coco-qa examples")
        others = [answer for answer in self._examples if answer != normalised_answer(query.answer)]
        answers = [others[at] for at in draw.permutation(len(others))[: WAYS - 1]] + [normalised_answer(query.answer)]
        rows = [self._examples[answers[at]] for at in draw.permutation(WAYS)]
        shown = [same[int(draw.integers(len(same)))] for same in rows]
        return Draw(
            support=tuple(example.picture for example in shown),
            query=query.picture,
            target=query.answer,
            prompt=lambda words, text: question_prompt(
                [Exchange(told, one.question, one.answer) for told, one in zip(words, shown, strict=True)],
                text,
                query.question,
            ),
            support_names=tuple(one_line(example.answer) for example in shown),
            names=tuple(one_line(example.answer) for example in shown),
        )

    @cached_property
    def _examples(self) -> dict[str, list[_Question]]:
        """Of the training part, by answer; ValueError where there are fewer answers than ways."""
        found: dict[str, list[_Question]] = {}
        for one in self._read("train"):
            found.setdefault(normalised_answer(one.answer), []).append(one)
        if len(found) < WAYS:
            raise ValueError(f"{self.data.folder}/train has {len(found)} different answers; {WAYS} are needed")
        return found

    @cached_property
    def _asked(self) -> Sequence[_Question]:
        return [one for one in self._read("test") if normalised_answer(one.answer) in self._examples]

    def _read(self, part: str) -> Sequence[_Question]:
        names = [f"{part}/{name}.txt" for name in ("img_ids", "questions", "answers")]
        columns = [read_file(self.data.folder, name).removesuffix("\n").split("\n") for name in names]
        if len({len(column) for column in columns}) > 1:
            counts = ", ".join(f"{name} {len(column)}" for name, column in zip(names, columns, strict=True))
            raise ValueError(f"{self.data.folder}: a line is a question, and there are unequal numbers: {counts}")
        return [self._question(part, number, *row) for number, row in enumerate(zip(*columns, strict=True), 1)]

    def _question(self, part: str, line: int, picture: str, question: str, answer: str) -> _Question:
        where = f"{self.data.folder}/{part}, line {line},"
        if not (picture.strip().isascii() and picture.strip().isdigit() and len(picture) < 20):
            raise ValueError(f"{where} has {picture[:40]!r} for a picture's number")
        return _Question(
            _PICTURES[part].format(int(picture)), checked_text(question, where), checked_text(answer, where)
        )
