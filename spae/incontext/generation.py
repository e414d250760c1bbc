"""One answer as it grows: the next token of free text or of allowed texts alone, and where it ends."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spae.incontext.language_model import AnswerLimits, cut
from spae.incontext.text_tokens import TextTokens


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


class GrowingAnswer:
    """The answer to one prompt, token by token; what it takes depends on its own logits alone, never on a batch.

    Args:
        tokens: of the model.
        limits: of the answer.
        ends: token ids that end it.
        prompt: whole text, from which draws get their seed.
        allowed: closed answers, None for free text.
    """

    def __init__(
        self, tokens: TextTokens, limits: AnswerLimits, ends: frozenset[int], prompt: str, allowed: AllowedTexts | None
    ) -> None:
        self.ids: list[int] = []
        self.text = ""
        """Once the answer is over: cut at the stop, without whitespace at both ends."""
        self.over = False
        self._tokens, self._limits, self._ends, self._allowed = tokens, limits, ends, allowed
        digest = hashlib.sha256(f"{limits.seed} {prompt}".encode(errors="surrogatepass")).digest()
        self._draws = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
        self._decide()

    def take(self, logits: Tensor) -> None:
        """Go on by the token that logits float32 (words) choose."""
        if self._allowed is None:
            token = self._choose(logits)
        else:
            mask = self._allowed.mask(self.ids, self._ends)
            token = mask[self._choose(logits[torch.tensor(mask, device=logits.device)])]
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
            self.text = self._allowed.text_of[tuple(self.ids)]
        else:
            self.text = cut(self._tokens.text(self.ids), self._limits.stop)

    def _decide(self) -> None:
        """End a closed answer once one text alone is left: its other tokens need no model."""
        if self._allowed is not None and (text := self._allowed.decided(self.ids)) is not None:
            self.text, self.over = text, True

    def _choose(self, logits: Tensor) -> int:
        if not self._limits.temperature:
            return int(logits.argmax())
        shares = (logits.double().cpu() / self._limits.temperature).softmax(0).cumsum(0)
        draw = torch.rand((), dtype=torch.float64, generator=self._draws) * shares[-1]
        return min(int(torch.searchsorted(shares, draw, right=True)), len(shares) - 1)
