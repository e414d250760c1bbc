"""Conditional denoising (Fig. 7, facts 4): from the words of a damaged picture to those of the picture.

Ten pairs show the task, their words exchanged at random from half of them down to a quarter, with the same noise on
both sides; the query is clean. The pairs are of other pictures, or all of the very picture that is asked for, as in
published work: then a vote over the places is nearly right by itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spae.data.order import random_generator
from spae.incontext.drawing.base import DrawingEpisode, DrawingQuery
from spae.incontext.drawing.damage import DAMAGES, RATES, damaged, exchanged
from spae.incontext.drawing.drawer import DrawnExample
from spae.incontext.text import WordText

SAME = "-same-picture"


class Pixels(Protocol):
    """Pictures of a split by their keys."""

    @property
    def keys(self) -> Sequence[str]:
        """Of all pictures."""

    def read(self, keys: Sequence[str]) -> NDArray[np.uint8]:
        """Pictures uint8 (n, H, W, 3)."""


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """Damaged pictures to be mended.

    Attributes:
        support: pictures of the pairs.
        scored: pictures that are asked for.
        encode: words of the layers that are drawn, int (n, words), of pictures.
        writer: the vocabulary as text.
        label: name of what a scored picture shows, by its key.
        kept: first words, which are never exchanged.
        known: first words of the picture that are given with the query.
        seed: of all episodes.
        queries: of one support; with one's own picture as support it is always one.
        provenance: what the footer of its files says of the pictures.
    """

    support: Pixels
    scored: Pixels
    encode: Callable[[NDArray[np.uint8]], NDArray[np.int32]]
    writer: WordText
    label: Mapping[str, str]
    kept: int
    known: int = 0
    seed: int = 0
    queries: int = 8
    provenance: Mapping[str, Any] = field(default_factory=dict)
    name: str = "denoise"

    @property
    def settings(self) -> Sequence[str]:
        """Each damage, with pairs of other pictures and of the same one."""
        return tuple(f"{damage}{same}" for same in ("", SAME) for damage in DAMAGES)

    def chance(self, setting: str) -> None:
        """Nothing that can be guessed."""
        return

    def episode(self, setting: str, number: int) -> DrawingEpisode:
        """The same pictures for every damage; ValueError for an unknown setting, and too few pictures."""
        if setting not in self.settings:
            raise ValueError(f"setting {setting!r} is none of {', '.join(self.settings)}")
        damage, same = setting.removesuffix(SAME), setting.endswith(SAME)
        draw = random_generator(self.seed, number, self.name)
        if len(self.support.keys) < len(RATES):
            raise ValueError(f"{len(self.support.keys)} pictures are too few for {len(RATES)} pairs")
        others = draw.permutation(np.asarray(self.support.keys))[: len(RATES)].tolist()
        asked = draw.permutation(np.asarray(self.scored.keys))[: 1 if same else self.queries].tolist()
        sources = self.scored.read(asked * len(RATES)) if same else self.support.read(others)
        noise = random_generator(self.seed, number, f"{self.name} noise")
        examples = []
        for rate, before, after in zip(RATES, self._words(damage, sources), self.encode(sources), strict=True):
            condition, target = exchanged((before, after), rate, self.kept, len(self.writer.words), noise)
            examples.append(DrawnExample(self.writer.write(condition), target))
        pictures = self.scored.read(asked)
        queries = tuple(
            DrawingQuery(
                key=key,
                condition=self.writer.write(before),
                target=self.label.get(key, ""),
                known=tuple(ids[: self.known]),
                ids=tuple(ids),
                given=tuple(before),
            )
            for key, before, ids in zip(
                asked, self._words(damage, pictures), self.encode(pictures).tolist(), strict=True
            )
        )
        return DrawingEpisode(number, tuple(asked if same else others), tuple(examples), queries)

    def _words(self, damage: str, pixels: NDArray[np.uint8]) -> list[list[int]]:
        return self.encode(damaged(damage, pixels)).tolist()
