"""Making files of drawn pictures: draw words, decode them, judge what they show, publish rows and a picture of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.episodes.asking import PromptModel
from jobs.episodes.files import EpisodeFile, EpisodesRun, stored_measures
from jobs.episodes.pictures import SplitPictures
from jobs.retries import persistently
from spae.data.media import encode_png
from spae.data.publishing import publish
from spae.evaluation.pictures import channels_first, decode_in_batches
from spae.incontext.drawing import Drawing, DrawingEpisode, DrawingTask, WordDrawer
from spae.incontext.episodes import EpisodeRow, sheet_url, write_episodes
from spae.incontext.summary import summarise_measure
from spae.model import SPAE
from spae.pyramid import TokenPyramid

_JUDGING_PICTURES = 10_000
_JUDGED_PICTURES = 500
_JUDGING_SIDE = 32
_NEIGHBOURS = 5

Pixels = NDArray[np.uint8]


class PictureJudge:
    """Says what a picture shows: what most of its five nearest real ones do, by Euclid's distance of pixels.

    Args:
        pictures: real ones, of which the first 10,000 are held, brought to 32 pixels a side where they are larger.
        names: what each of them shows, by its key.
    """

    def __init__(self, pictures: SplitPictures, names: Mapping[str, str]) -> None:
        self._keys = [key for key in pictures.keys if key in names][:_JUDGING_PICTURES]
        self._names, self._pictures = [names[key] for key in self._keys], pictures

    @cached_property
    def _features(self) -> torch.Tensor:
        return _features(self._pictures.read(self._keys))

    def __call__(self, pixels: Pixels) -> list[str]:
        """A name for each of uint8 (n, H, W, 3)."""
        nearest = torch.cdist(_features(pixels), self._features).topk(min(_NEIGHBOURS, len(self._names)), largest=False)
        votes = [[self._names[place] for place in row] for row in nearest.indices.tolist()]
        return [max(names, key=names.count) for names in votes]  # of equally many, the nearest's


def _features(pixels: Pixels) -> torch.Tensor:
    small = channels_first(pixels).float()
    height, width = (min(side, _JUDGING_SIDE) for side in small.shape[-2:])
    return torch.nn.functional.adaptive_avg_pool2d(small, (height, width)).flatten(1)


@dataclass(frozen=True, kw_only=True)
class DrawingJob:
    """What is drawn, and where its rows go.

    Attributes:
        run: the files.
        task: draws episodes.
        seed: of the task's episodes, for the rows.
        model: decodes the words.
        layers: that are drawn.
        judge: says what a drawing shows.
        scored: real pictures on which the judge is tried.
        names: what these show, by their keys.
        encode: words of the drawn layers, int (n, words), of pictures.
        drawer: how their words are asked for.
    """

    run: EpisodesRun
    task: DrawingTask
    seed: int
    model: SPAE
    layers: int
    judge: PictureJudge
    scored: SplitPictures
    names: Mapping[str, str]
    encode: Callable[[Pixels], NDArray[np.int32]]
    drawer: WordDrawer

    def ask(self, file: EpisodeFile, answerer: PromptModel) -> list[EpisodeRow]:
        """Draw and publish the episodes of a file, and beside it a picture of them."""
        rows, sheet = list[EpisodeRow](), list[Pixels]()
        for number in range(file.first, file.stop):
            episode = self.task.episode(file.setting, number)
            drawings = self.drawer.draw(episode.requests, answerer)
            pictures = self._pictures([drawing.ids if not drawing.error else None for drawing in drawings])
            targets = self._pictures([query.ids for query in episode.queries])
            given = self._pictures([query.given for query in episode.queries])
            examples = self._pictures([example.ids for example in episode.examples])
            for place, drawing in enumerate(drawings):
                row = self._row(file.setting, episode, place, drawing)
                if (picture := pictures[place]) is not None:
                    nearest = _nearest(picture, [one for one in examples if one is not None])
                    (name,) = self.judge(picture[None])
                    row |= {"parsed": name, "score": float(name == row["target"]), "png": encode_png(picture)}
                    row["measures"] |= _measures(drawing, episode, place, (picture, nearest, targets[place]))
                    shown = [given[place], targets[place], picture, nearest]
                    sheet.append(np.concatenate([one for one in shown if one is not None], 1))
                rows.append(EpisodeRow(**row))
        revision = self.run.footer.get("llm_revision") or answerer.revision
        footer = {**self.run.footer, "llm_revision": revision, "episodes": len(file)}
        if sheet:
            url = sheet_url(self.run.url(file))
            persistently("publishing pictures", lambda: publish(url, encode_png(np.concatenate(sheet))))
        persistently("publishing episodes", lambda: write_episodes(self.run.url(file), rows, footer))
        return rows

    def corpus_scores(self, setting: str, episodes: int) -> dict[str, float]:
        """The mean of each measure over all drawings that have it, its interval's ends as `_low` and `_high`."""
        values: dict[str, list[tuple[int, float]]] = {}
        for episode, measures in stored_measures(self.run.output, self.run.task, setting, episodes):
            for name, value in measures.items():
                values.setdefault(name, []).append((episode, value))
        scores: dict[str, float] = {}
        for name, some in values.items():
            made = summarise_measure(some)
            scores |= {name: made.mean, f"{name}_low": made.low, f"{name}_high": made.high}
        return scores

    def ceiling(self) -> dict[str, float]:
        """How often the judge is right of real pictures that nobody drew, and of what their words rebuild."""
        keys = [key for key in self.scored.keys if key in self.names][:_JUDGED_PICTURES]
        real = self.scored.read(keys)
        rebuilt = np.stack([one for one in self._pictures(self.encode(real).tolist()) if one is not None])
        truth = np.array([self.names[key] for key in keys])
        judged = {"real": self.judge(real), "rebuilt": self.judge(rebuilt)}
        shares = {name: float(np.mean(np.array(names) == truth)) for name, names in judged.items()}
        return {"pictures": len(keys), **shares}

    def prompts(self, setting: str, number: int) -> list[tuple[str, int]]:
        """Text of each prompt of an episode with an example's words for those that are not drawn yet, and the most
        tokens of its answer.
        """
        episode = self.task.episode(setting, number)
        ids = episode.examples[0].ids
        return [one for request in episode.requests for one in self.drawer.prompts(request, ids)]

    def objection(self, setting: str, number: int) -> str:
        """Why an episode cannot be drawn; empty where it can."""
        try:
            self.prompts(setting, number)
        except ValueError as error:
            return str(error)
        return ""

    def _row(self, setting: str, episode: DrawingEpisode, place: int, drawing: Drawing) -> dict[str, Any]:
        query = episode.queries[place]
        share = drawing.invalid / max(1, drawing.segments)
        return {
            "episode": episode.number,
            "query": place,
            "seed": self.seed,
            "setting": setting,
            "query_key": query.key,
            "support_keys": episode.support_keys,
            "prompt": drawing.prompt.text,
            "answer": "\n".join(drawing.answers),
            "parsed": "",
            "target": query.target,
            "score": 0.0,
            "prompt_tokens": drawing.prompt_tokens,
            "answer_tokens": drawing.answer_tokens,
            "seconds": drawing.seconds,
            "error": drawing.error or None,
            "ids": tuple(drawing.ids),
            "measures": {"invalid": share, "foreign": float(drawing.foreign)},
        }

    def _pictures(self, rows: Sequence[Sequence[int] | None]) -> list[Pixels | None]:
        """uint8 (H, W, 3) of words; None where there are none."""
        there = [list(row) for row in rows if row is not None]
        if not there:
            return [None] * len(rows)
        pyramid = TokenPyramid.from_flat(torch.tensor(there), self.model.config.grids[: self.layers])
        made = iter(np.concatenate(list(decode_in_batches(self.model, pyramid, len(there)))))
        return [None if row is None else next(made) for row in rows]


def _difference(one: Pixels, other: Pixels) -> float:
    """Root mean square, in levels of 255."""
    return float(np.sqrt(np.mean((one.astype(np.float64) - other) ** 2)))


def _nearest(picture: Pixels, examples: Sequence[Pixels]) -> Pixels:
    return min(examples, key=lambda example: _difference(picture, example))


def _measures(
    drawing: Drawing, episode: DrawingEpisode, place: int, pictures: tuple[Pixels, Pixels, Pixels | None]
) -> dict[str, float]:
    """What is measured of a whole drawing: of its picture, the nearest example's, and the target's if there is one."""
    (picture, nearest, target), query = pictures, episode.queries[place]
    known = len(query.known)
    drawn = np.array(drawing.ids[known:])
    equal = [float(np.mean(drawn == np.array(example.ids[known:]))) for example in episode.examples]
    measures = {"nearest_example": _difference(picture, nearest), "copied": max(equal)}
    if target is not None and query.ids is not None:
        measures["psnr"] = float(20 * np.log10(255 / max(_difference(picture, target), 1e-3)))
        measures["right_words"] = float(np.mean(drawn == np.array(query.ids[known:])))
    return measures
