"""mini-ImageNet as Frozen's authors released it: classes with made-up names, or with their own (section 5.1, Tab. 1).

The sets are open_ended_mi and real_name_mi; one question an episode. Tab. 1 is on the real names (facts 5.1).
"""

from collections.abc import Callable, Sequence

from spae.incontext.language_model import AnswerLimits, Prompt
from spae.incontext.prompts import PROMPT_FORMS, SETTINGS, Example, Setting, classification_prompt
from spae.incontext.tasks.inner_shots import InnerShots, InnerShotsTask
from spae.incontext.tasks.released import Draw
from spae.incontext.text import bare


class MiniImageNet(InnerShotsTask):
    """The fourteen settings of Tab. 1; examples are told again for repeats."""

    @property
    def settings(self) -> Sequence[str]:
        """The fourteen of Tab. 1."""
        return tuple(SETTINGS)

    def limits(self, setting: str) -> AnswerLimits:
        """Greedy free text, one line."""
        return AnswerLimits(most_tokens=PROMPT_FORMS[self.data.form].most_tokens)

    def chance(self, setting: str) -> float:
        """One of so many ways."""
        return 1 / _chosen(setting).ways

    def parse(self, answer: str) -> str:
        """The answer's first line, without case, quotes and punctuation around it."""
        return bare(answer.split("\n", 1)[0])

    def score(self, parsed: str, target: str) -> float:
        """1 where the whole answer is the name, else 0 (facts 5.1); an empty one is none."""
        return float(parsed == bare(target) != "")

    def draw(self, setting: str, number: int) -> Draw:
        """Question `number` in an order by the seed; ValueError for an unknown setting, or more than there are."""
        chosen = _chosen(setting)
        item = self.item(chosen.shots, chosen.ways, number)
        return Draw(
            support=item.pictures,
            query=item.question_picture,
            target=item.answer,
            prompt=_prompt(item, chosen, self.data.form),
            support_names=item.names,
            names=tuple(dict.fromkeys(item.names)),
        )


def _prompt(item: InnerShots, setting: Setting, form: str) -> Callable[[Sequence[str], str], Prompt]:
    def write(words: Sequence[str], query: str) -> Prompt:
        examples = [Example(*pair) for pair in zip(words, item.names, strict=True)]
        return classification_prompt(PROMPT_FORMS[form], setting, examples, list(dict.fromkeys(item.names)), query)

    return write


def _chosen(setting: str) -> Setting:
    if setting not in SETTINGS:
        raise ValueError(f"setting {setting!r} is none of {', '.join(SETTINGS)}")
    return SETTINGS[setting]
