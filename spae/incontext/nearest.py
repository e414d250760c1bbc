"""References without weights, from text alone: the output of the example whose input resembles the query's most, or
what most examples have.

They read prompts of the forms that the tasks write, an example a block:

    ###                     C: seven two seven
    Input: seven two seven  Q: What is this?
    Output: dax             A: dax
    ###                     C: seven two two
    Input: seven two two    Q: What is this?
    Output:                 A:

or, where there is no question, `Q: seven two seven` and `A: dax`. A question is part of the input.
"""

import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from spae.incontext.language_model import Answer, AnswerLimits, Prompt, cut

_BLOCK = re.compile(r"^(?:Input:(.*)\nOutput|((?:C:.*\n)?Q:.*)\nA):(.*)$", re.MULTILINE)
_MARK = re.compile(r"^[CQ]:", re.MULTILINE)
_WORD = re.compile(r"\w+")
_SHARPNESS = 10.0
"""Similarity 1 against 0 is e^10 to 1 in `log_likelihoods`."""


@dataclass(frozen=True)
class _Example:
    input: dict[str, float]
    """Words by weight, of length 1."""
    output: str


class NearestContext:
    """Answers with the output of the nearest example, ties to the first; nothing else of a prompt is read.

    Nearness is the cosine between bags of words, in which the word at place n (from 1) weighs 1/n: the first words of a
    picture name it, and those of its last layers are many. An answer's tokens are its words.
    """

    name = "nearest-context"
    revision = "cosine of words weighted 1/place"
    context_tokens = 1 << 30

    def count_tokens(self, text: str) -> int:
        """Words of a text."""
        return len(_WORD.findall(text))

    def answer(self, prompts: Sequence[Prompt], limits: AnswerLimits) -> list[Answer]:
        """One answer a prompt; with `allowed`, the nearest example of those whose output is one of them.

        Outputs of several allowed words are not looked through.
        """
        allowed = {text.strip() for text in limits.allowed} if limits.count == 1 else set()
        return [self._answer(prompt.text, limits, allowed) for prompt in prompts]

    def log_likelihoods(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[list[float]]:
        """Of each continuation by its nearest example's similarity, their shares over all continuations adding to 1.

        A continuation that is no example's output has similarity -1. ValueError where a prompt cannot be read.
        """
        return [self._shares(prompt.text, texts) for prompt, texts in zip(prompts, continuations, strict=True)]

    def _answer(self, text: str, limits: AnswerLimits, allowed: set[str]) -> Answer:
        started = time.perf_counter()
        tokens = self.count_tokens(text)
        try:
            examples, query = _read(text)
            known = [example for example in examples if not allowed or example.output in allowed]
            if not known:
                raise ValueError("no example's output is one of the allowed texts")
        except ValueError as error:
            return Answer("", tokens, 0, time.perf_counter() - started, str(error))
        output = cut(self._output(known, query), limits.stop)
        return Answer(output, tokens, self.count_tokens(output), time.perf_counter() - started)

    def _output(self, examples: Sequence[_Example], query: Mapping[str, float]) -> str:
        return max(examples, key=lambda example: _cosine(example.input, query)).output  # the first of several

    def _shares(self, text: str, continuations: Sequence[str]) -> list[float]:
        examples, query = _read(text)
        best: dict[str, float] = defaultdict(lambda: -1.0)
        for example in examples:
            best[example.output] = max(best[example.output], _cosine(example.input, query))
        scores = [_SHARPNESS * best[continuation.strip()] for continuation in continuations]
        most = max(scores, default=0.0)
        total = most + math.log(sum(math.exp(score - most) for score in scores)) if scores else 0.0
        return [score - total for score in scores]


class MajorityContext(NearestContext):
    """Answers with the word that most examples' outputs have at each place, ties to the first; the query is not read.

    Where examples are damaged pictures of one and the same, this mends them. `log_likelihoods` are nearest-context's.
    """

    name = "majority-context"
    revision = "most frequent word at each place"

    def _output(self, examples: Sequence[_Example], query: Mapping[str, float]) -> str:
        places = zip_longest(*(example.output.split() for example in examples))
        counts = [Counter(word for word in place if word is not None) for place in places]
        return " ".join(count.most_common(1)[0][0] for count in counts)


WITHOUT_WEIGHTS = {reference.name: reference for reference in (NearestContext, MajorityContext)}
"""References by name."""


def _read(text: str) -> tuple[list[_Example], dict[str, float]]:
    """Examples and the query's words; ValueError where the prompt has another form."""
    found = _BLOCK.findall(text.rstrip())
    blocks = [(words + _MARK.sub("", asked), output) for words, asked, output in found]
    if len(blocks) < 2 or blocks[-1][1].strip() or not text.rstrip().endswith(("Output:", "\nA:")):
        raise ValueError(
            "the prompt has another form than examples of `Input: …` and `Output: …` lines, or `Q: …` and `A: …`, with "
            "an open `Output:` or `A:` last"
        )
    *examples, (query, _) = blocks
    return [_Example(_weights(words), output.strip()) for words, output in examples], _weights(query)


def _weights(text: str) -> dict[str, float]:
    weights: dict[str, float] = defaultdict(float)
    for place, word in enumerate(_WORD.findall(text.lower()), 1):
        weights[word] += 1 / place
    length = math.sqrt(sum(weight * weight for weight in weights.values()))
    return {word: weight / length for word, weight in weights.items()}


def _cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    return sum(weight * other.get(word, 0.0) for word, weight in one.items())
