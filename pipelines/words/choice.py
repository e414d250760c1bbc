"""Which tokens become words: text, pattern, denied words, duplicates, outliers of the norm, and how many."""

import re
from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from pipelines.words.tokens import LanguageModel, RowsError
from spae.vocabulary.transforms import norm_outliers

NAMED = 100
"""Words listed for a reason at most; the reason's count tells how many there were."""


@dataclass(frozen=True, kw_only=True)
class WordFilter:
    """Which tokens become words."""

    pattern: str = ""
    """Regular expression that a whole word must match; empty takes all."""
    whole: bool = False
    """Leave out tokens that only continue a word, such as ##ing."""
    max_words: int | None = None
    """Keep the most frequent words."""
    include: tuple[str, ...] = ()
    """Words kept whatever their rank, pattern and length."""
    denied: Container[str] = frozenset()
    """Words left out."""
    frequencies: Mapping[str, int] = field(default_factory=dict)
    """Count by word, which ranks the words; those without a count follow in the tokenizer's own order."""
    keep_outliers: bool = False
    """Keep words whose embedding is far longer or shorter than the others."""

    def __post_init__(self) -> None:
        if self.max_words is not None and self.max_words < max(1, len(set(self.include))):
            raise ValueError(
                f"max_words={self.max_words} must be at least 1 and hold the {len(self.include)} to include"
            )
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"word pattern {self.pattern!r} is no regular expression: {error}") from error


@dataclass(frozen=True)
class Words:
    """The words kept, most frequent first, and how many tokens went for which reason."""

    words: tuple[str, ...]
    llm_ids: Tensor
    rows: Tensor
    """Their embeddings float32 (K, C)."""
    dropped: Mapping[str, int]
    examples: Mapping[str, tuple[str, ...]]
    """The first words that went for being outliers, by reason."""


def choose_words(model: LanguageModel, rules: WordFilter) -> Words:
    """Filter tokens to words and get their embeddings; kept and dropped add up to the model's size.

    Embeddings on demand are asked for as many words as are kept, then for one more in place of each outlier.

    Raises:
        ValueError: no word is left, or a word to include is none.
        RowsError: a row cannot be had, or is not finite.
    """
    allowed, dropped = candidates(model, rules)
    asked = _asked_first(model, rules, allowed)
    rows = _finite_rows(model, asked)
    lost = _outliers(asked, rows, rules)
    while (room := min(len(allowed), (rules.max_words or 0) + len(lost)) - len(asked)) > 0:
        more = dict(islice(((word, token) for word, token in allowed.items() if word not in asked), room))
        asked, rows = {**asked, **more}, torch.cat([rows, _finite_rows(model, more)])
        lost = _outliers(asked, rows, rules)
    model.embeddings.release()
    gone = set(lost)
    kept = _cut({word: token for word, token in allowed.items() if word in asked and word not in gone}, rules)
    dropped |= {"norm outlier": len(lost), "beyond max_words": len(allowed) - len(lost) - len(kept)}
    row_of = {word: row for row, word in enumerate(asked)}
    return Words(
        words=tuple(kept),
        llm_ids=torch.tensor(list(kept.values())),
        rows=rows[[row_of[word] for word in kept]],
        dropped={reason: count for reason, count in dropped.items() if count},
        examples={"norm outlier": tuple(lost[:NAMED])} if lost else {},
    )


def first_asked(model: LanguageModel, rules: WordFilter) -> dict[str, int]:
    """Token by word of those whose embeddings are asked for, outliers among them."""
    return _asked_first(model, rules, candidates(model, rules)[0])


def candidates(model: LanguageModel, rules: WordFilter) -> tuple[dict[str, int], dict[str, int]]:
    """Token by word of all that the rules allow, most frequent first, before any cut; and tokens dropped by reason."""
    tokens = model.tokens
    dropped: defaultdict[str, int] = defaultdict(int)
    for reason in tokens.reasons.values():
        dropped[reason] += 1
    dropped["row without token"] = model.size - len(tokens.texts) - len(tokens.reasons)
    pattern = re.compile(rules.pattern or r"(?s:.*)")
    wanted, first = frozenset(rules.include), dict[str, int]()
    for token, text in tokens.texts.items():
        word = text.strip()
        if rules.whole and text == word:
            dropped["continues a word"] += 1
        elif word in first:
            dropped["duplicate"] += 1
        elif word in rules.denied and word not in wanted:
            dropped["denied"] += 1
        elif word in wanted or pattern.fullmatch(word):
            first[word] = token
        else:
            dropped["word pattern"] += 1
    if absent := sorted(wanted - set(first)):
        raise ValueError(f"--include {' '.join(absent)}: no token of {tokens.name} is that word by itself")
    if not first:
        raise ValueError(f"no token of {tokens.name} becomes a word (pattern {rules.pattern!r}): {dict(dropped)}")
    order = sorted(first, key=lambda word: -rules.frequencies.get(word, 0))
    return {word: first[word] for word in order}, dropped


def _asked_first(model: LanguageModel, rules: WordFilter, allowed: dict[str, int]) -> dict[str, int]:
    return _cut(allowed, rules) if model.embeddings.on_demand else allowed


def _finite_rows(model: LanguageModel, asked: Mapping[str, int]) -> Tensor:
    words, ids = list(asked), list(asked.values())
    rows = model.embeddings.rows(words, ids)
    if not bool(torch.isfinite(rows).all()):
        row = int((~torch.isfinite(rows).all(1)).nonzero()[0])
        raise RowsError(f"{model.embeddings.source}: the row of token {ids[row]} {words[row]!r} is not finite")
    return rows


def _outliers(asked: Mapping[str, int], rows: Tensor, rules: WordFilter) -> list[str]:
    """The words to drop for their rows."""
    if rules.keep_outliers:
        return []
    words, wanted = list(asked), frozenset(rules.include)
    return [words[row] for row in norm_outliers(rows).nonzero()[:, 0].tolist() if words[row] not in wanted]


def _cut(first: Mapping[str, int], rules: WordFilter) -> dict[str, int]:
    """The first words and those to include."""
    if rules.max_words is None:
        return dict(first)
    wanted = frozenset(rules.include)
    room = rules.max_words - len(wanted)
    free = [word for word in first if word not in wanted]
    gone = set(free[max(0, room) :])
    return {word: token for word, token in first.items() if word not in gone}
