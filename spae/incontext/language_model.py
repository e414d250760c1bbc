"""What every language model that answers prompts offers, whether it runs here, behind an address, or has no weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Prompt:
    """A text to continue, in two parts so that what several prompts begin with alike is read once."""

    shared: str
    """What several prompts begin with alike, such as preamble and examples; may be empty."""
    query: str
    """What follows it."""
    draw: int = 0
    """Which of several draws of the same text it is; each has a seed of its own."""

    @property
    def text(self) -> str:
        """The whole prompt."""
        return self.shared + self.query


@dataclass(frozen=True, kw_only=True)
class AnswerLimits:
    """Where an answer ends and what it may be."""

    most_tokens: int
    stop: tuple[str, ...] = ("\n",)
    """The answer ends before the first of these."""
    allowed: tuple[str, ...] = ()
    """Closed answers: only these texts can come out; none: free text."""
    count: int = 1
    """A closed answer is so many of these texts, one after the other, blanks between."""
    temperature: float = 0.0
    """0 takes the likeliest token at each step."""
    seed: int = 0
    """Of the draws at a temperature above 0; the same prompt and seed give the same answer."""

    def __post_init__(self) -> None:
        if self.most_tokens < 1:
            raise ValueError(f"most_tokens={self.most_tokens} must be 1 or more")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature={self.temperature} must be 0 or a finite number above it")
        if "" in self.stop:
            raise ValueError(f"stop={self.stop} holds an empty text, before which every answer ends; leave it out")
        if self.count < 1:
            raise ValueError(f"count={self.count} must be 1 or more")
        if empty := [text for text in self.allowed if not text.strip()]:
            raise ValueError(f"allowed={self.allowed} holds {empty[0]!r}, which is no answer; leave it out")


@dataclass(frozen=True)
class Answer:
    """What a model made of a prompt."""

    text: str
    """Cut at the stop, without whitespace at both ends."""
    prompt_tokens: int
    answer_tokens: int
    seconds: float
    """Of its share of a batch."""
    error: str = ""
    """Why there is no answer; the text is empty then."""
    log_likelihood: float = math.nan
    """log p, natural, of the tokens that were chosen, by what the model gives without limits; NaN from a server."""


class TokenCounter(Protocol):
    """What is known of a model's tokens, without its weights too."""

    @property
    def context_tokens(self) -> int:
        """Tokens that a prompt and its answer may take together."""

    def count_tokens(self, text: str) -> int:
        """Tokens of a text."""


@runtime_checkable
class LanguageModel(TokenCounter, Protocol):
    """A frozen model that continues text."""

    @property
    def name(self) -> str:
        """As people call it."""

    @property
    def revision(self) -> str:
        """A hub commit, a file's sha256, or what a server says of itself."""

    def answer(self, prompts: Sequence[Prompt], limits: AnswerLimits) -> list[Answer]:
        """One answer a prompt, in their order; a prompt that cannot be answered gets an error, never an exception.

        ValueError where no prompt at all could be answered within the limits.
        """

    def log_likelihoods(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[list[float]]:
        """log p(continuation | prompt), natural, for each prompt of each of its continuations."""


def check_context(model: LanguageModel, prompt: Prompt, most_tokens: int) -> None:
    """ValueError where prompt and answer together overrun the context; it names the overrun and what would fit."""
    message = context_overrun(model.context_tokens, model.count_tokens(prompt.text), most_tokens)
    if message:
        raise ValueError(f"{model.name}: {message}")


def context_overrun(context_tokens: int, prompt_tokens: int, most_tokens: int) -> str:
    """What to say of a prompt that is too long, empty of one that fits."""
    over = prompt_tokens + most_tokens - context_tokens
    if over <= 0:
        return ""
    fitting = max(context_tokens - most_tokens, 0)
    return (
        f"a prompt of {prompt_tokens} tokens and an answer of {most_tokens} are {over} over the context of "
        f"{context_tokens}; a prompt of {fitting} tokens would fit: give fewer examples or layers"
    )


def cut(text: str, stop: Sequence[str]) -> str:
    """A text before the first of the stops, without whitespace at both ends."""
    return text[: min((at for one in stop if (at := text.find(one)) >= 0), default=len(text))].strip()
