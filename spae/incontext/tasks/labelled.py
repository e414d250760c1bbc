"""Pictures with labels as text: what tasks on splits of shards draw from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spae.data.order import random_generator


class LabelledPictures(Protocol):
    """Pictures of a split: n keys, labels int64 (n,), and the words of their first layers."""

    @property
    def keys(self) -> Sequence[str]:
        """Of all pictures."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of all pictures."""

    @property
    def members(self) -> Mapping[int, NDArray[np.int64]]:
        """Rows of each label."""

    def text(self, row: int, *, random_table: bool = False) -> str:
        """A picture's words, or those that a random table has at their places; ValueError where there is no table."""


def random_table(words: int) -> NDArray[np.int64]:
    """For each word another one, int64 (words,): a permutation drawn once for all, which leaves none at its place."""
    order = random_generator(0, 0, "random table").permutation(words)
    table = np.empty(words, np.int64)
    table[order] = np.roll(order, 1)
    return table


def rows_by_label(labels: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Rows of each label."""
    return {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}


@dataclass(frozen=True)
class LabelledWords:
    """Labelled pictures whose texts are there, n of them."""

    keys: tuple[str, ...]
    labels: NDArray[np.int64]
    texts: tuple[str, ...]

    @cached_property
    def members(self) -> dict[int, NDArray[np.int64]]:
        """Rows of each label."""
        return rows_by_label(self.labels)

    def text(self, row: int, *, random_table: bool = False) -> str:
        """A picture's words; ValueError for those of a random table, which takes a vocabulary."""
        if random_table:
            raise ValueError("a random table needs the words' ids, and here are texts alone")
        return self.texts[row]


@dataclass(frozen=True, kw_only=True)
class LabelledSplits:
    """What a task on labelled pictures is made of.

    Attributes:
        support: pictures that examples are drawn from.
        scored: pictures that are asked about.
        class_names: name of each label.
        seed: of all episodes.
        form: wording, a name of PROMPT_FORMS.
        queries: asked about of one support.
        provenance: what the footer of a run says of the pictures.
    """

    support: LabelledPictures
    scored: LabelledPictures
    class_names: Mapping[int, str]
    seed: int = 0
    form: str = "lqae"
    queries: int = 8
    provenance: Mapping[str, Any] = field(default_factory=dict)
