"""Drawing pictures as words by a frozen language model: wave by wave, all pictures side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from spae.incontext.drawing.segments import Decoding, Segment, waves
from spae.incontext.language_model import Answer, AnswerLimits, Prompt
from spae.incontext.text import WordText, one_line

_TOKENS_A_WORD = 4
"""At most, on the mean of a segment."""


class PromptAnswerer(Protocol):
    """The part of a language model that draws."""

    def answer(self, prompts: Sequence[Prompt], limits: AnswerLimits) -> list[Answer]:
        """One answer a prompt, in their order."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a segment is asked for.

    Attributes:
        constrained: whether only words of the vocabulary can come out, by a mask over the model's ids.
        candidates: answers a segment; of several the likeliest is taken, from a server the first that is whole.
        first_valid: take the first whole candidate instead.
        temperature: of the first attempt; 0 takes the likeliest token, so that candidates would all be the same.
        hotter: added for each further attempt.
        attempts: until all words of a segment have come.
        seed: of all draws.
    """

    constrained: bool = True
    candidates: int = 1
    first_valid: bool = False
    temperature: float = 0.0
    hotter: float = 0.2
    attempts: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.candidates, self.attempts) < 1 or min(self.temperature, self.hotter) < 0:
            raise ValueError(f"{self} must have candidates and attempts of 1 or more, and no temperature below 0")
        if self.candidates > 1 and not self.temperature:
            raise ValueError(f"candidates={self.candidates} are all the same at temperature 0; give one above 0")


@dataclass(frozen=True)
class DrawnExample:
    """A picture that the prompt shows: what it is said to be, and its words, layer by layer."""

    condition: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class DrawingRequest:
    """A picture to draw: examples, what it shall be, and the words of its first layers where they are known."""

    examples: tuple[DrawnExample, ...]
    condition: str
    known: tuple[int, ...] = ()


@dataclass
class Drawing:
    """What came of a request.

    Attributes:
        ids: words, layer by layer; as many as were drawn where there is an error.
        prompt: of the first segment.
        answers: what the model wrote, a line a segment.
        segments: that were asked for.
        invalid: of them, those whose first attempt was not so many words of the vocabulary.
        foreign: pieces of first attempts that are no word of the vocabulary.
        prompt_tokens: of all prompts, read anew for each.
        answer_tokens: of all answers.
        seconds: of its share of the batches.
        error: why the picture is not whole.
    """

    ids: list[int]
    prompt: Prompt = field(default_factory=lambda: Prompt("", ""))
    answers: list[str] = field(default_factory=list)
    segments: int = 0
    invalid: int = 0
    foreign: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class _Task:
    """One segment of one picture."""

    number: int
    segment: Segment
    prompt: Prompt

    @property
    def count(self) -> int:
        """Words of the segment."""
        return self.segment.stop - self.segment.start


class WordDrawer:
    """Draws pictures of one vocabulary and pyramid.

    Args:
        writer: the vocabulary as text.
        layer_sizes: words of each layer that is drawn.
        decoding: in which segments.
        sampling: how each of them is asked for.
    """

    def __init__(self, writer: WordText, layer_sizes: Sequence[int], decoding: Decoding, sampling: Sampling) -> None:
        self.writer, self.layer_sizes = writer, tuple(layer_sizes)
        self.decoding, self.sampling = decoding, sampling

    def draw(self, requests: Sequence[DrawingRequest], model: PromptAnswerer) -> list[Drawing]:
        """One drawing a request by a model, in their order; one that does not become whole has an error.

        ValueError where requests do not know the same number of layers.
        """
        drawings = [Drawing(list(request.known)) for request in requests]
        for wave in waves(self.layer_sizes, self._known_layers(requests), self.decoding):
            tasks = [
                _Task(number, segment, self.prompt(request, segment, drawings[number].ids))
                for segment in wave
                for number, request in enumerate(requests)
                if not drawings[number].error
            ]
            words = self._draw(tasks, drawings, model)
            for task in tasks:
                drawing = drawings[task.number]
                drawing.prompt = drawing.prompt if drawing.segments else task.prompt
                drawing.segments += 1
                drawing.ids += words.get((task.number, task.segment), ())
        return drawings

    def prompts(self, request: DrawingRequest, ids: Sequence[int]) -> list[tuple[str, int]]:
        """Text of each prompt of a picture of these words, and the most tokens of its answer."""
        cut = waves(self.layer_sizes, self._known_layers([request]), self.decoding)
        return [
            (self.prompt(request, one, ids).text, _most_tokens(one.stop - one.start)) for wave in cut for one in wave
        ]

    def prompt(self, request: DrawingRequest, segment: Segment, drawn: Sequence[int]) -> Prompt:
        """What a segment is asked by (facts 3)."""
        count = segment.stop - segment.start
        told = "".join(
            f"{self._asked(example.condition, example.ids, segment)}"
            f" {self.writer.write(example.ids[segment.start : segment.stop])}\n"
            for example in request.examples
        )
        task = f"Learn a new language and predict the next {count} tokens following the examples.\n"
        if not segment.conditioned:
            task = "Predict the outputs following the examples.\n"
        return Prompt(task + told, self._asked(request.condition, drawn, segment))

    def _asked(self, condition: str, ids: Sequence[int], segment: Segment) -> str:
        seen = self.writer.write(ids[segment.seen : segment.seen_stop])
        head = f"C: {one_line(condition)}\n" if segment.conditioned else ""
        return f"{head}Q: {seen}\nA:" if seen else f"{head}Q:\nA:"

    def _known_layers(self, requests: Iterable[DrawingRequest]) -> int:
        known = {len(request.known) for request in requests} or {0}
        for layers in range(len(self.layer_sizes)):
            if known == {sum(self.layer_sizes[:layers])}:
                return layers
        raise ValueError(f"{sorted(known)} words are known, which are not the first of the layers {self.layer_sizes}")

    def _draw(
        self, tasks: Sequence[_Task], drawings: Sequence[Drawing], model: PromptAnswerer
    ) -> Mapping[tuple[int, Segment], list[int]]:
        """The words of each segment that came out whole; the drawings of others get an error."""
        words: dict[tuple[int, Segment], list[int]] = {}
        left = list(tasks)
        for attempt in range(self.sampling.attempts):
            for count in dict.fromkeys(task.count for task in left):
                asked = [task for task in left if task.count == count]
                words |= self._take(asked, self._answers(asked, count, attempt, model), drawings, first=not attempt)
            left = [t for t in left if (t.number, t.segment) not in words and not drawings[t.number].error]
            if not left:
                break
        for task in left:
            places = f"{task.segment.start} to {task.segment.stop - 1} of {sum(self.layer_sizes)}"
            drawings[task.number].error = f"words {places} did not come in {self.sampling.attempts} attempts"
        return words

    def _answers(
        self, tasks: Sequence[_Task], count: int, attempt: int, model: PromptAnswerer
    ) -> list[Sequence[Answer]]:
        """The candidates of each segment, all of so many words."""
        sampling = self.sampling
        limits = AnswerLimits(
            most_tokens=_most_tokens(count),
            allowed=self.writer.words if sampling.constrained else (),
            count=count if sampling.constrained else 1,
            temperature=sampling.temperature + attempt * sampling.hotter,
            seed=(sampling.seed * sampling.attempts + attempt) * sampling.candidates,
        )
        draws = range(sampling.candidates)
        answers = model.answer([replace(task.prompt, draw=draw) for task in tasks for draw in draws], limits)
        return [answers[start : start + len(draws)] for start in range(0, len(answers), len(draws))]

    def _take(
        self, tasks: Sequence[_Task], answers: Sequence[Sequence[Answer]], drawings: Sequence[Drawing], *, first: bool
    ) -> dict[tuple[int, Segment], list[int]]:
        """The words of the segments that came out whole, in an attempt that is the first or a further one."""
        words = {}
        for task, candidates in zip(tasks, answers, strict=True):
            drawing = drawings[task.number]
            drawing.prompt_tokens += sum(answer.prompt_tokens for answer in candidates)
            drawing.answer_tokens += sum(answer.answer_tokens for answer in candidates)
            drawing.seconds += sum(answer.seconds for answer in candidates)
            if all(answer.error for answer in candidates):
                drawing.error = candidates[0].error
                continue
            parsed = [(one, self.writer.parse(one.text, task.count)) for one in candidates if not one.error]
            whole = [(answer, found.ids) for answer, found in parsed if not found.missing]
            if first:
                drawing.invalid += not whole
                drawing.foreign += parsed[0][1].foreign
            if whole:
                answer, ids = whole[0] if self.sampling.first_valid else max(whole, key=_likelihood)
                words[task.number, task.segment] = list(ids)
                drawing.answers.append(answer.text)
        return words


def _most_tokens(words: int) -> int:
    return _TOKENS_A_WORD * (words + 1)


def _likelihood(candidate: tuple[Answer, Sequence[int]]) -> float:
    """Unknown ones are all alike, so that the first is taken."""
    value = candidate[0].log_likelihood
    return value if value == value else 0.0
