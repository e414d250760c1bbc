"""Which pictures are drawn, and how: flags of the drawing tasks, and making what draws."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.episodes.drawing import DrawingJob, PictureJudge
from jobs.episodes.files import EpisodesRun
from jobs.episodes.pictures import SplitPictures
from jobs.episodes.task_flags import TaskFlags, class_names
from jobs.episodes.words import SplitWords
from jobs.paths import place
from spae.data.records import load_index
from spae.evaluation.pictures import encode_in_batches, read_pictures
from spae.incontext.drawing import ClassDrawing, Decoding, Denoising, DrawingTask, Sampling, WordDrawer
from spae.incontext.tasks import DRAWING_TASKS
from spae.incontext.text import WordText
from spae.model import SPAE
from spae.pyramid import check_layers

_KEPT_LAYERS = 3
"""First layers in whose words denoising puts no noise: they name what is seen."""


_AT_ONCE = 256
"""Pictures in memory where only what they show is wanted."""


@dataclass(frozen=True, kw_only=True)
class DrawingFlags(TaskFlags):
    """How pictures are drawn, in tasks that draw."""

    drawn_layers: int | None = None
    """First layers of a drawing; all by default."""
    known_layers: int = 0
    """Of these the first ones that are given with a query to be denoised, not drawn."""
    stride: int = 4
    """Words that are asked for at once, each segment seeing those before it; 0 asks for all in one pass."""
    history: int | None = None
    """Words before a segment that it sees; all by default."""
    parallel_layers: int = 1
    """Last layers whose segments see the layers before theirs, and not each other."""
    parallel_stride: int = 16
    """Words of such a segment."""
    unconstrained: bool = False
    """Let the model write what it likes: words are parsed, and asked for again where some are missing."""
    candidates: int = 1
    """Answers to each segment, of which the likeliest is taken; needs a --temperature."""
    first_valid: bool = False
    """Take the first candidate that is whole instead."""
    temperature: float = 0.0
    """Of the first attempt at a segment; 0 takes the likeliest token."""
    attempts: int = 5
    """At a segment, each hotter by 0.2, until all its words have come."""

    @property
    def draws(self) -> bool:
        """Whether the task draws pictures."""
        return self.task in DRAWING_TASKS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.known_layers and self.task != "denoise":
            raise ValueError(f"--known-layers {self.known_layers} is for --task denoise, whose pictures have some")

    @property
    def decoding(self) -> Decoding:
        """In which segments; ValueError where that means nothing."""
        names = ("stride", "history", "parallel_layers", "parallel_stride")
        return Decoding(**{name: getattr(self, name) for name in names})

    @property
    def sampling(self) -> Sampling:
        """How a segment is asked for; ValueError where that means nothing."""
        names = ("candidates", "first_valid", "temperature", "attempts", "seed")
        return Sampling(constrained=not self.unconstrained, **{name: getattr(self, name) for name in names})

    def deciding(self, model: SPAE) -> dict[str, Any]:
        """What decides the rows beside what every task has."""
        decoding = {**asdict(self.decoding), **asdict(self.sampling), "known_layers": self.known_layers}
        return {**decoding, "layers": check_layers(self.drawn_layers, model.depth)}


def drawing_job(flags: DrawingFlags, model: SPAE, footer: Mapping[str, Any]) -> DrawingJob:
    """Task and files of a run that draws.

    ValueError where a place is none, or there are not so many layers.
    """
    opened, layers = _open(flags, model), check_layers(flags.drawn_layers, model.depth)
    task = _task(flags, model, opened)
    return DrawingJob(
        run=EpisodesRun(place("--output", flags.output), task.name, {**footer, **task.provenance}, episodes_a_file=1),
        task=task,
        seed=flags.seed,
        model=model,
        layers=layers,
        judge=PictureJudge(opened.support, _shown(opened.support, opened.class_names)),
        scored=opened.scored,
        names=opened.shown,
        encode=opened.encode,
        drawer=WordDrawer(WordText(model.vocabulary), _sizes(model, layers), flags.decoding, flags.sampling),
    )


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """Both splits: the support's pictures, words and class names, the other's pictures and what they show."""

    support: SplitPictures
    words: SplitWords
    class_names: Mapping[int, str]
    scored: SplitPictures
    shown: Mapping[str, str]
    encode: Callable[[NDArray[np.uint8]], NDArray[np.int32]]
    provenance: Mapping[str, Any]


def _open(flags: DrawingFlags, model: SPAE) -> _Opened:
    shards, support = place("--shards", flags.shards or ""), place("--support-shards", flags.support_shards or "")
    layers, (height, width) = check_layers(flags.drawn_layers, model.depth), model.config.input_size

    def encode(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
        return encode_in_batches(model, pixels, flags.batch, layers).flatten().numpy().astype(np.int32)

    scored = SplitPictures(shards, (height, width))
    return _Opened(
        support=SplitPictures(support, (height, width)),
        words=SplitWords(model, support, layers, flags.batch, flags.support_tokens),
        class_names=class_names(support, flags.classes),
        scored=scored,
        shown=_shown(scored, class_names(shards, flags.classes)),
        encode=encode,
        provenance={"shards_sha256": load_index(shards).sha256, "support_shards_sha256": load_index(support).sha256},
    )


def _task(flags: DrawingFlags, model: SPAE, opened: _Opened) -> DrawingTask:
    shared: dict[str, Any] = {"seed": flags.seed, "queries": flags.queries, "provenance": opened.provenance}
    if flags.task == "draw-classes":
        return ClassDrawing(support=opened.words, class_names=opened.class_names, **shared)
    layers = check_layers(flags.drawn_layers, model.depth)
    return Denoising(
        support=opened.support,
        scored=opened.scored,
        encode=opened.encode,
        writer=WordText(model.vocabulary),
        label=opened.shown,
        kept=sum(_sizes(model, min(_KEPT_LAYERS, layers - 1))),
        known=sum(_sizes(model, flags.known_layers)),
        **shared,
    )


def _sizes(model: SPAE, layers: int) -> tuple[int, ...]:
    return tuple(math.prod(grid) for grid in model.config.grids[:layers])


def _shown(pictures: SplitPictures, names: Mapping[int, str]) -> dict[str, str]:
    """What each picture of a split that can be decoded shows, by its key; no word is searched for it."""
    shown = dict[str, str]()
    for shard in load_index(pictures.shards).shards:
        for part in read_pictures(shard, pictures.size, _AT_ONCE):
            labels = zip(part.keys, part.labels, strict=True)
            shown |= {key: names[label] for key, label in labels if label is not None and label in names}
    return shown
