"""The wording of prompts (facts 3), line by line; what goes into a line has none of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spae.incontext.language_model import Prompt
from spae.incontext.text import one_line


@dataclass(frozen=True)
class Example:
    """A picture's words as text, and what it is called."""

    words: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A column of the paper's Tab. 1.

    Attributes:
        ways: names to choose from.
        shots: examples a name.
        induction: whether the task is told first.
        repeats: how often the examples are told again.
    """

    ways: int
    shots: int
    induction: bool = True
    repeats: int = 0

    @property
    def name(self) -> str:
        """Such as 5-way-3-shot, 2-way-1-shot-5-repeats, 2-way-1-shot-no-induction."""
        more = f"-{self.repeats}-repeats" if self.repeats else ""
        return f"{self.ways}-way-{self.shots}-shot{more}" + ("" if self.induction else "-no-induction")


SETTINGS = {
    setting.name: setting
    for ways in (2, 5)
    for setting in (
        Setting(ways=ways, shots=1, induction=False),
        *(Setting(ways=ways, shots=shots) for shots in (1, 3, 5)),
        *(Setting(ways=ways, shots=1, repeats=repeats) for repeats in (1, 3, 5)),
    )
}
"""The fourteen of Tab. 1, in its order."""


@dataclass(frozen=True)
class PromptForm:
    """How a few-shot classification is worded.

    Attributes:
        induction: the task's line, of the names.
        example: the lines of an example.
        query: the lines before the answer, of the query's words; no blank at its end, which the answer begins with.
        most_tokens: of an answer, in the paper.
    """

    induction: Callable[[Sequence[str]], str]
    example: Callable[[Example], str]
    query: Callable[[str], str]
    most_tokens: int


PROMPT_FORMS = {
    "lqae": PromptForm(
        induction=lambda names: f"For each of the following input output pairs, output is one of {list(names)}\n",
        example=lambda example: f"###\nInput: {example.words}\nOutput: {example.name}\n",
        query=lambda words: f"###\nInput: {words}\nOutput:",
        most_tokens=7,
    ),
    "frozen": PromptForm(
        induction=lambda names: "Answer with " + " or ".join(f'"{name}"' for name in names) + ".\n",
        example=lambda example: f"{example.words}\nThis is a {example.name}\n",
        query=lambda words: f"{words}\nThis is a",
        most_tokens=4,
    ),
}
"""By name: LQAE's, which the paper uses with GPT-3.5, and Frozen's, which it uses with PaLM 2."""


def classification_prompt(
    form: PromptForm, setting: Setting, examples: Sequence[Example], names: Sequence[str], query: str
) -> Prompt:
    """The prompt of one query; all that queries of the same examples share stands in `shared`."""
    cleaned = [Example(one_line(example.words), one_line(example.name)) for example in examples]
    told = "".join(form.example(example) for example in cleaned) * (setting.repeats + 1)
    induction = form.induction([one_line(name) for name in names]) if setting.induction else ""
    return Prompt(induction + told, form.query(one_line(query)))


@dataclass(frozen=True)
class Exchange:
    """A picture's words as text, a question about it, and the answer."""

    words: str
    question: str
    answer: str


def question_prompt(examples: Sequence[Exchange], words: str, question: str) -> Prompt:
    """Questions about pictures (facts 3): examples with answers, then the words and question without one."""
    told = "".join(f"{_asked(one.words, one.question)} {one_line(one.answer)}\n" for one in examples)
    return Prompt("Answer with a single word.\n" + told, _asked(words, question))


def _asked(words: str, question: str) -> str:
    return f"C: {one_line(words)}\nQ: {one_line(question)}\nA:"


def caption_prompt(examples: Sequence[Example], words: str) -> Prompt:
    """Captions of pictures (facts 3): examples, then the words without a caption."""
    told = "".join(f"Q: {one_line(one.words)}\nA: {one_line(one.name)}\n" for one in examples)
    return Prompt(
        "Generate a caption sentence based on words describing an image.\n" + told, f"Q: {one_line(words)}\nA:"
    )
