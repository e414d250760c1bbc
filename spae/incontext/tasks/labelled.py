"""Pictures with labels as text: what tasks on splits of shards draw from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelledWords:
    """Pictures of a split as text: n keys, labels int64 (n,), and the words of their first layers, a text each."""

    keys: tuple[str, ...]
    labels: NDArray[np.int64]
    texts: tuple[str, ...]

    @cached_property
    def members(self) -> dict[int, NDArray[np.int64]]:
        """Rows of each label."""
        return {int(label): np.flatnonzero(self.labels == label) for label in np.unique(self.labels)}


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
    """

    support: LabelledWords
    scored: LabelledWords
    class_names: Mapping[int, str]
    seed: int = 0
    form: str = "lqae"
    queries: int = 8
