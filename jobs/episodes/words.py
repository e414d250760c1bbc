"""The words of a split's labelled pictures, from shards or from token tables."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spae.data.records import SplitIndex, load_index
from spae.data.token_table import open_token_table
from spae.evaluation.pictures import encoded_batches
from spae.incontext.tasks import random_table, rows_by_label
from spae.incontext.text import WordText
from spae.model import SPAE
from spae.progress import tracked


class _Part(NamedTuple):
    """Some pictures: n keys, n labels, ids int (n, words), and samples that have none."""

    keys: Sequence[str]
    labels: Sequence[int | None]
    ids: NDArray[np.int32]
    errors: int = 0

    @property
    def samples(self) -> int:
        return len(self.keys) + self.errors


class SplitWords:
    """The first layers' words of a split's labelled pictures: read when first asked for, and then all held in memory.

    Args:
        model: the tokenizer.
        shards: folder of the split.
        layers: first ones, whose words are told.
        batch: pictures of every pass of the model.
        tokens: folder of token tables of this split by this model; without it the pictures are encoded.

    Reading raises ValueError where no picture has a label, or a table is missing or of another model or shard.
    """

    def __init__(self, model: SPAE, shards: str, layers: int, batch: int, tokens: str | None = None) -> None:
        self.model, self.shards, self.layers, self.batch, self.tokens = model, shards, layers, batch, tokens
        self._writer = WordText(model.vocabulary)

    @property
    def keys(self) -> Sequence[str]:
        """Of all pictures."""
        return self._read.keys

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Of all pictures."""
        return np.asarray(self._read.labels, np.int64)

    @cached_property
    def members(self) -> dict[int, NDArray[np.int64]]:
        """Rows of each label."""
        return rows_by_label(self.labels)

    def text(self, row: int, *, random_table: bool = False) -> str:
        """A picture's words, or those that a random table has at their places."""
        ids = self._read.ids[row]
        return self._writer.write((self._random_table[ids] if random_table else ids).tolist())

    def ids(self, row: int) -> tuple[int, ...]:
        """Of a picture's words, layer by layer."""
        return tuple(self._read.ids[row].tolist())

    @cached_property
    def _random_table(self) -> NDArray[np.int64]:
        return random_table(len(self.model.vocabulary))

    @cached_property
    def _read(self) -> _Part:
        index = load_index(self.shards)
        parts = [_labelled(part) for part in tracked(self._parts(index), index.samples, "image", lambda p: p.samples)]
        keys = [key for part in parts for key in part.keys]
        if not keys:
            raise ValueError(f"{self.shards} holds no picture with a label; classification needs some")
        labels = [label for part in parts for label in part.labels]
        return _Part(keys, labels, np.concatenate([part.ids for part in parts]))

    def _parts(self, index: SplitIndex) -> Iterator[_Part]:
        if self.tokens is not None:
            for shard in index.shards:
                rows = open_token_table(self.tokens, shard, self.model.fingerprint, self.layers)
                ids = np.concatenate([layer.reshape(len(rows.keys), -1) for layer in rows.layers], axis=1)
                yield _Part(rows.keys, rows.labels, ids, shard.samples - len(rows.keys))
            return
        for encoded in encoded_batches(self.model, index.shards, self.batch, layers=self.layers):
            if encoded.pyramid is not None:
                ids = encoded.pyramid.flatten().numpy().astype(np.int32)
                yield _Part(encoded.keys, encoded.labels, ids, encoded.errors)


def _labelled(part: _Part) -> _Part:
    rows = [row for row, label in enumerate(part.labels) if label is not None]
    return _Part([part.keys[row] for row in rows], [part.labels[row] for row in rows], part.ids[rows], part.errors)
