"""Real-Fast-VQA (Tab. 3): two classes are introduced by pictures with their names, then a question is asked.

Released by Frozen's authors as the set real_fast_vqa, one question an episode.
"""

from collections.abc import Sequence

from spae.incontext.language_model import AnswerLimits
from spae.incontext.prompts import Exchange, question_prompt
from spae.incontext.tasks.inner_shots import InnerShotsTask
from spae.incontext.tasks.released import Draw
from spae.incontext.tasks.vqa_answers import normalised_answer

WAYS = 2
SHOTS = {f"{WAYS}-way-{shots}-shot": shots for shots in (1, 3, 5)}
"""Pictures a class, by setting."""


class RealFastVqa(InnerShotsTask):
    """Answers to questions about a picture that shows classes which are introduced first."""

    @property
    def settings(self) -> Sequence[str]:
        """The three of Tab. 3."""
        return tuple(SHOTS)

    def limits(self, setting: str) -> AnswerLimits:
        """Greedy free text, one line of 4 tokens (facts 3)."""
        return AnswerLimits(most_tokens=4)

    def parse(self, answer: str) -> str:
        """The first line, as VQAv2 compares answers."""
        return normalised_answer(answer.split("\n", 1)[0])

    def score(self, parsed: str, target: str) -> float:
        """1 where both are one answer, else 0; what has no word is none."""
        return float(parsed == normalised_answer(target) != "")

    def draw(self, setting: str, number: int) -> Draw:
        """Question `number` in an order by the seed; ValueError for an unknown setting, or more than there are."""
        if setting not in SHOTS:
            raise ValueError(f"setting {setting!r} is none of {', '.join(SHOTS)}")
        item = self.item(SHOTS[setting], WAYS, number)
        return Draw(
            support=item.pictures,
            query=item.question_picture,
            target=item.answer,
            prompt=lambda words, query: question_prompt(
                [Exchange(*pair) for pair in zip(words, ["What is this?"] * len(words), item.names, strict=True)],
                query,
                item.question,
            ),
        )
