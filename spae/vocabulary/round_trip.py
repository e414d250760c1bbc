"""Which words survive being joined to a text and split again by the language model's own tokenizer.

A word that continues another, or that merges with its neighbours, does not come back. Words are tried alone, then
beside others: random orders of all survivors, and each of the riskier ones (not letters alone, or a single one) beside
each other.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from spae.vocabulary.record import RoundTripRecord

SEPARATORS = (" ", ", ", "\n", " | ", ",")
"""The candidates, in order of preference."""
_ORDERS = 2  # random orders in which all survivors are tried
_RISKIEST = 96  # words that are tried in all pairs: 9,216 of them
_TEXT = 256  # words of one text

Split = Callable[[str], list[str]]
"""From a text to the words of its tokens."""


def measure_round_trip(words: Sequence[str], split: Split) -> RoundTripRecord:
    """The separator with which most words survive, the first of equals; exact for all words but the lost."""
    best: RoundTripRecord | None = None
    for separator in SEPARATORS:
        for start in ("", " ") if separator.endswith(" ") else ("",):
            found = try_separator(words, split, separator, start)
            if best is None or found.survivors > best.survivors:
                best = found
            if not found.lost:
                return found
    assert best is not None
    return best


def try_separator(words: Sequence[str], split: Split, separator: str, start: str) -> RoundTripRecord:
    """Which words survive with this separator, and this text before the first word."""

    def returns(sequence: Sequence[str]) -> bool:
        return split_text(start + separator.join(sequence), split, separator) == list(sequence)

    alive = [word for word in words if returns([word])]
    broken = [pair for sequence in _sequences(alive) for pair in _broken_pairs(sequence, returns)]
    survivors = set(alive) - _culprits(broken)
    lost = tuple(number for number, word in enumerate(words) if word not in survivors)
    return RoundTripRecord(separator=separator, start=start, words=len(words), lost=lost)


def split_text(text: str, split: Split, separator: str) -> list[str]:
    """The words of a joined text, the separator's own tokens left out."""
    mark = separator.strip()
    return [word for word in split(text) if word != mark]


def _sequences(words: list[str]) -> Iterator[list[str]]:
    """Words in orders that bring many of them together."""
    generator = random.Random(0)
    for _ in range(_ORDERS):
        order = generator.sample(words, len(words))
        yield from (order[start : start + _TEXT] for start in range(0, len(order), _TEXT))
    risky = [word for word in words if not word.isalpha() or len(word) == 1][:_RISKIEST]
    for first in risky:
        yield [word for second in risky for word in (first, second)]


def _broken_pairs(sequence: list[str], returns: Callable[[Sequence[str]], bool]) -> Iterator[tuple[str, ...]]:
    """The shortest stretches that do not come back, by halving: two words, where each survives alone."""
    pending = [sequence]
    while pending:
        part = pending.pop()
        if len(part) < 2 or returns(part):
            continue
        if len(part) == 2:
            yield tuple(part)
            continue
        middle = len(part) // 2
        pending += [part[:middle], part[middle - 1 : middle + 1], part[middle:]]


def _culprits(broken: Sequence[tuple[str, ...]]) -> set[str]:
    """Of each broken pair one word, the one that breaks more pairs."""
    counts = Counter(word for pair in broken for word in set(pair))
    culprits = set[str]()
    for pair in sorted(broken, key=lambda pair: -max(counts[word] for word in pair)):
        if culprits.isdisjoint(pair):
            culprits.add(max(pair, key=lambda word: (counts[word], word)))
    return culprits
