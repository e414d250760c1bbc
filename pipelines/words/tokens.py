"""What every source of words gives: tokens as text, and rows of embeddings for them."""

import abc
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

NO_TOKEN = -1
"""In place of ids, where a tokenizer has none for a text."""
LARGEST_FILE = 2**28
"""Bytes of a tokenizer's file, or a list of words, that is read."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of a language model."""

    name: str
    revision: str
    """Commit of a hub id, or hash of the file; empty for a folder."""
    texts: Mapping[int, str]
    """Text of each token by id, with a leading space where a word begins; the most frequent first."""
    reasons: Mapping[int, str] = field(default_factory=dict)
    """Why a token has no text, by id: special, empty, not printable, invalid UTF-8."""
    split: Callable[[str], list[int]] | None = None
    """The tokenizer: ids of a text. None where the source is a list without one."""

    @property
    def sha256(self) -> str:
        """Over all texts and reasons, by id."""
        content = json.dumps([sorted(self.texts.items()), sorted(self.reasons.items())])
        return hashlib.sha256(content.encode()).hexdigest()

    def split_words(self, text: str) -> list[str]:
        """A text as the words of its tokens, blank ones left out; � stands for one that is no text."""
        assert self.split is not None, f"{self.name} has no tokenizer"
        tokens = (token for token in self.split(text) if self.reasons.get(token) != "empty")
        return [self.texts.get(token, "�").strip() for token in tokens]


class RowsError(ValueError):
    """Embeddings cannot be had, or make no table."""


class RowSource(abc.ABC):
    """Where the embeddings of words come from."""

    source: str
    """For the record: which tensor of which file, or which model of which endpoint."""
    on_demand: bool = False
    """Whether a row costs work or money, so that only those of chosen words are asked for."""

    @abc.abstractmethod
    def rows(self, words: Sequence[str], tokens: Sequence[int]) -> Tensor:
        """Embeddings float32 (K, C) of K words and their token ids."""

    def estimate(self, words: Sequence[str]) -> str:
        """What asking for rows would cost; empty where they are at hand."""
        return ""

    def release(self) -> None:  # noqa: B027  most take nothing
        """Free what asking for rows has taken; they can be asked for again."""

    def clear(self) -> None:  # noqa: B027  most keep nothing
        """Remove what was kept for a rerun."""


@dataclass(frozen=True)
class UnaskedRows(RowSource):
    """Stands for rows on demand in a dry run: one number a word."""

    source: str
    on_demand: bool = True

    def rows(self, words: Sequence[str], tokens: Sequence[int]) -> Tensor:
        """Ones (K, 1)."""
        return torch.ones(len(words), 1)


@dataclass(frozen=True)
class TableRows(RowSource):
    """A table with one row a token id."""

    source: str
    table: Tensor
    """(V, C) as it is stored."""

    def rows(self, words: Sequence[str], tokens: Sequence[int]) -> Tensor:
        """The tokens' rows."""
        return self.table[torch.tensor(tokens)].float()

    @property
    def sha256(self) -> str:
        """Over the stored bytes."""
        return hashlib.sha256(self.table.contiguous().view(torch.uint8).numpy().data).hexdigest()

    def check_match(self, tokens: Tokens) -> None:
        """ValueError where this cannot be the table of these tokens."""
        count, largest = len(tokens.texts) + len(tokens.reasons), max([*tokens.texts, *tokens.reasons], default=0)
        if largest >= len(self.table) or count < len(self.table) / 2:
            raise ValueError(
                f"{tokens.name}: the tokenizer has {count} tokens with ids up to {largest}, but the embeddings have "
                f"{len(self.table)} rows ({self.source}); tokenizer and weights are of different models"
            )


@dataclass(frozen=True)
class LanguageModel:
    """A language model as far as its words go."""

    tokens: Tokens
    embeddings: RowSource

    def __post_init__(self) -> None:
        if isinstance(self.embeddings, TableRows):
            self.embeddings.check_match(self.tokens)

    @property
    def revision(self) -> str:
        """Hub commit, or a hash of the embeddings where they are a table, or of the tokens."""
        content = self.embeddings if isinstance(self.embeddings, TableRows) else self.tokens
        return self.tokens.revision or f"sha256:{content.sha256}"

    @property
    def size(self) -> int:
        """Tokens, those that are rows without a text included."""
        if isinstance(self.embeddings, TableRows):
            return len(self.embeddings.table)
        return len(self.tokens.texts) + len(self.tokens.reasons)


def reason_without_text(text: str) -> str:
    """Why a text is no word: empty, not printable, or '' where it is one."""
    if not text.strip():
        return "empty"
    return "" if text.strip().isprintable() else "not printable"


def sort_texts(texts: Mapping[int, str], reasons: Mapping[int, str]) -> tuple[dict[int, str], dict[int, str]]:
    """Part texts into words and reasons, those given kept."""
    found = {token: reason_without_text(text) for token, text in texts.items()}
    good = {token: text for token, text in texts.items() if not found[token]}
    return good, {**reasons, **{token: reason for token, reason in found.items() if reason}}


def read_small_file(path: str, flag: str) -> bytes:
    """The bytes of a local file of at most LARGEST_FILE; ValueError names the flag that gave it."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"{flag} {path} cannot be read: {error.strerror}") from error
    if len(data) > LARGEST_FILE:
        raise ValueError(f"{flag} {path} is larger than {LARGEST_FILE} bytes")
    return data
