"""The words of a picture and what it shows as a text for a language model, with delimiters and a loss mask.

A text that is to be continued by the words ends in "Picture:", one by the caption in "Caption:". Layers stand coarse to
fine with a bar between, and a line of three hashes ends a picture:

    Caption: seven
    Picture: nine | the that line line | ...
    ###
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from spae.data.token_sequences import Document
from spae.data.token_table import TokenRows
from spae.incontext.text import one_line

BEFORE_WORDS, BEFORE_CAPTION, BETWEEN_LAYERS, END = "Picture:", "Caption:", " |", "\n###\n"

Learn = Literal["words", "caption"]


@dataclass
class PictureDocuments:
    """Rows of token tables as documents.

    Attributes:
        learn: words: of a caption the picture; caption: of a picture the caption. The loss is on that part alone.
        words: text of each word id, one line each.
        names: text of each label.
        caption: column that holds the caption; "" where the label's name is it.
        tokens: what cuts text into ids (`spae.incontext.text_tokens.TextTokens`).
        uncaptioned: rows so far that no document was made of, since nothing tells what they show.
    """

    learn: Learn
    words: Sequence[str]
    names: Mapping[int, str]
    caption: str
    tokens: Any
    uncaptioned: int = field(default=0, init=False)

    def documents(self, parts: Iterable[TokenRows]) -> Iterator[Document]:
        """A document of each row that tells what it shows."""
        for rows in parts:
            used = itertools.repeat(None) if rows.depth is None else rows.depth.tolist()
            for number, (caption, depth) in enumerate(zip(self._captions(rows), used, strict=False)):
                if caption := one_line(caption or ""):
                    yield self._document(caption, [layer[number].ravel().tolist() for layer in rows.layers[:depth]])
                else:
                    self.uncaptioned += 1

    def _captions(self, rows: TokenRows) -> list[str | None]:
        if self.caption:
            return list(rows.columns[self.caption].to_pylist())
        return [None if label is None else self.names.get(label) for label in rows.labels]

    def _document(self, caption: str, layers: Sequence[Sequence[int]]) -> Document:
        before, learned = picture_text(self.learn, caption, [[self.words[word] for word in ids] for ids in layers])
        head, tail = self.tokens.ids(before), self.tokens.behind(before, learned)
        return Document(np.asarray([*head, *tail], np.int64), np.arange(len(head) + len(tail)) >= len(head))


def picture_text(learn: Learn, caption: str, layers: Sequence[Sequence[str]]) -> tuple[str, str]:
    """What a language model is given, and what it is to answer."""
    words = BETWEEN_LAYERS.join("".join(f" {word}" for word in layer) for layer in layers)
    if learn == "words":
        return f"{BEFORE_CAPTION} {caption}\n{BEFORE_WORDS}", f"{words}{END}"
    return f"{BEFORE_WORDS}{words}\n{BEFORE_CAPTION}", f" {caption}{END}"
