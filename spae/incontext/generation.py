"""One answer as it grows: the next token of free text, of one allowed text, or of so many; and where it ends."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from spae.incontext.language_model import AnswerLimits, Prompt, cut
from spae.incontext.text_tokens import TextTokens


class Allowed(Protocol):
    """What a closed answer can be, as token ids that may follow a prompt."""

    def decided(self, ids: Sequence[int]) -> str | None:
        """The answer that alone can still come out behind these ids of it; None while there are several."""

    def mask(self, ids: Sequence[int], ends: Collection[int]) -> list[int]:
        """The ids that may follow those of an answer so far; those of an end where it is whole and may go on."""

    def text(self, ids: Sequence[int]) -> str:
        """The answer that consists of these ids."""


@dataclass(frozen=True)
class AllowedTexts:
    """The allowed texts as token ids that may follow a prompt."""

    text_of: dict[tuple[int, ...], str]
    """Of each row of token ids; a text can have two, with a space before it and without."""

    @classmethod
    def behind(cls, before: str, tokens: TextTokens, limits: AnswerLimits) -> "AllowedTexts":
        """The allowed texts behind the end of a prompt, as whose part they are cut into tokens.

        ValueError where a text cannot come out within the most tokens that an answer may have.
        """
        text_of: dict[tuple[int, ...], str] = {}
        for text in limits.allowed:
            rows = [tuple(tokens.behind(before, space + text.strip())) for space in (" ", "")]
            fitting = [row for row in rows if 0 < len(row) <= limits.most_tokens]
            if not fitting:
                raise ValueError(
                    f"the allowed answer {text!r} takes {min(map(len, rows))} tokens and most_tokens is "
                    f"{limits.most_tokens}: its mask would be empty; raise most_tokens or leave the text out"
                )
            text_of.update(dict.fromkeys(fitting, text.strip()))
        return cls(text_of)

    def decided(self, ids: Sequence[int]) -> str | None:
        """The text that alone can still come out, None while there are several."""
        texts = {text for row, text in self.text_of.items() if row[: len(ids)] == tuple(ids)}
        return texts.pop() if len(texts) == 1 else None

    def mask(self, ids: Sequence[int], ends: Collection[int]) -> list[int]:
        """The ids that may follow those of an answer so far; those of an end where a text is whole and may go on."""
        begun = [row for row in self.text_of if row[: len(ids)] == tuple(ids)]
        following = {row[len(ids)] for row in begun if len(row) > len(ids)}
        if tuple(ids) in self.text_of:
            following |= set(ends)
        if not following:
            raise ValueError(f"no allowed text goes on behind the token ids {list(ids)}; the mask would be empty")
        return sorted(following)

    def text(self, ids: Sequence[int]) -> str:
        """The text of these ids."""
        return self.text_of[tuple(ids)]


@dataclass(frozen=True)
class WordTokens:
    """Words as token ids, each with a blank before it, wherever they stand."""

    rows: frozenset[tuple[int, ...]]

    @classmethod
    def of(cls, words: Sequence[str], tokens: TextTokens) -> "WordTokens":
        """Cut behind a colon, as prompts end; what stands before a blank is no matter to a tokenizer of whole words."""
        return cls(frozenset(tuple(tokens.behind(":", f" {word.strip()}")) for word in words))

    @cached_property
    def following(self) -> dict[tuple[int, ...], list[int]]:
        """The ids that may follow each beginning of a word, the empty one among them."""
        found: dict[tuple[int, ...], set[int]] = {}
        for row in self.rows:
            for length in range(len(row)):
                found.setdefault(row[:length], set()).add(row[length])
        return {beginning: sorted(ids) for beginning, ids in found.items()}


@dataclass(frozen=True)
class AllowedWords:
    """So many words one after the other; one may be the beginning of another."""

    words: WordTokens
    count: int
    tokens: TextTokens

    def decided(self, ids: Sequence[int]) -> str | None:
        """The answer once all words are there and the last one cannot go on."""
        return self.text(ids) if self._places(ids) == {((), self.count)} else None

    def mask(self, ids: Sequence[int], ends: Collection[int]) -> list[int]:
        """The ids that may follow; ValueError where these ids are no words."""
        places = self._places(ids)
        allowed = [self.words.following[begun] for begun, done in places if done < self.count]
        if ((), self.count) in places:
            allowed.append(sorted(ends))
        if not allowed:
            raise ValueError(f"no word goes on behind the token ids {list(ids)}; the mask would be empty")
        return allowed[0] if len(allowed) == 1 else sorted({token for some in allowed for token in some})

    def text(self, ids: Sequence[int]) -> str:
        """The words, blanks between."""
        return self.tokens.text(ids).strip()

    def _places(self, ids: Sequence[int]) -> set[tuple[tuple[int, ...], int]]:
        """Where an answer can be behind these ids: what of a word is begun, and how many are done."""
        places: set[tuple[tuple[int, ...], int]] = {((), 0)}
        for token in ids:
            longer = {((*begun, token), done) for begun, done in places if done < self.count}
            places = {one for one in longer if one[0] in self.words.following}
            places |= {((), done + 1) for begun, done in longer if begun in self.words.rows}
        return places


class GrowingAnswer:
    """The answer to one prompt, token by token; what it takes depends on its own logits alone, never on a batch.

    Args:
        tokens: of the model.
        limits: of the answer.
        ends: token ids that end it.
        prompt: from which draws get their seed.
        allowed: closed answers, None for free text.
    """

    def __init__(
        self, tokens: TextTokens, limits: AnswerLimits, ends: frozenset[int], prompt: Prompt, allowed: Allowed | None
    ) -> None:
        self.ids: list[int] = []
        self.text = ""
        """Once the answer is over: cut at the stop, without whitespace at both ends."""
        self.over = False
        self.log_likelihood = 0.0
        """Of the tokens so far and of the end, natural, by all that the model could have said."""
        self._tokens, self._limits, self._ends, self._allowed = tokens, limits, ends, allowed
        seed = f"{limits.seed} {prompt.draw or ''}{prompt.text}"
        digest = hashlib.sha256(seed.encode(errors="surrogatepass")).digest()
        self._draws = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
        self._decide()

    def take(self, logits: Tensor) -> None:
        """Go on by the token that logits float32 (words) choose."""
        if self._allowed is None:
            token = self._choose(logits)
        else:
            mask = self._allowed.mask(self.ids, self._ends)
            token = mask[self._choose(logits[torch.tensor(mask, device=logits.device)])]
        self.log_likelihood += float(logits[token] - logits.logsumexp(0))
        if token in self._ends:
            self._end()
            return
        self.ids.append(token)
        if self._allowed is not None:
            self._decide()
            return
        text = self._tokens.text(self.ids)
        if len(self.ids) >= self._limits.most_tokens or any(stop in text for stop in self._limits.stop):
            self._end()

    def _end(self) -> None:
        self.over = True
        if self._allowed is not None:
            self.text = self._allowed.text(self.ids)
        else:
            self.text = cut(self._tokens.text(self.ids), self._limits.stop)

    def _decide(self) -> None:
        """End a closed answer once one alone is left: its other tokens need no model."""
        if self._allowed is not None and (text := self._allowed.decided(self.ids)) is not None:
            self.text, self.over = text, True

    def _choose(self, logits: Tensor) -> int:
        if not self._limits.temperature:
            return int(logits.argmax())
        shares = (logits.double().cpu() / self._limits.temperature).softmax(0).cumsum(0)
        draw = torch.rand((), dtype=torch.float64, generator=self._draws) * shares[-1]
        return min(int(torch.searchsorted(shares, draw, right=True)), len(shares) - 1)
