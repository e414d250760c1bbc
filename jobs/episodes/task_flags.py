"""Which task on which pictures: flags that several commands share, and making the task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from jobs.episodes.folder_words import FolderWords
from jobs.episodes.words import SplitWords
from jobs.paths import place, place_or_name
from spae.data.records import load_class_names, load_index
from spae.incontext.prompts import PROMPT_FORMS
from spae.incontext.tasks import (
    DRAWING_TASKS,
    LABELLED_TASKS,
    RELEASED_TASKS,
    TASKS,
    LabelledSplits,
    ReleasedData,
    Task,
)
from spae.model import SPAE
from spae.pyramid import check_layers


@dataclass(frozen=True, kw_only=True)
class TaskFlags:
    """Which pictures are asked about, and how."""

    model: str
    """Model folder, by path, URL or hub id."""
    output: str
    """Folder for what is written."""
    task: Annotated[str, tyro.conf.arg(metavar="|".join(TASKS))] = "few-shot-made-up"
    """few-shot-real: the classes' own names. few-shot-made-up: dax, blicket and others, which only the examples
    explain. few-shot-other: names of things that are not shown. draw-classes: pictures of named classes, or of sums.
    denoise: from damaged pictures to whole ones. All others are on released files."""
    shards: str | None = None
    """Split whose pictures are asked about; its classes.parquet names the labels. For few-shot tasks."""
    support_shards: str | None = None
    """Split whose pictures are the examples. For few-shot tasks."""
    tokens: str | None = None
    """Folder of token tables of --shards by this model; without it the pictures are encoded."""
    support_tokens: str | None = None
    """The same of --support-shards."""
    classes: tuple[str, ...] = ()
    """Names of the classes that are drawn, all by default. For few-shot tasks."""
    data: str | None = None
    """Folder of the released files and their pictures. For tasks on released files."""
    baseline_model: str | None = None
    """Model folder whose words the setting baseline tells, for tasks that compare layers."""
    settings: tuple[str, ...] = ("all",)
    """Columns of Tab. 1 such as 5-way-3-shot, all of them by default; with +permuted-labels, +shuffled-words,
    +random-table or +names-as-words a control."""
    layers: int = 2
    """First layers whose words are told."""
    episodes: int = 50
    """Supports a setting."""
    queries: int = 8
    """Pictures asked about of one support."""
    seed: int = 0
    """Of all episodes."""
    form: str = "lqae"
    """Wording of the prompt: lqae or frozen."""
    batch: int = 64
    """Pictures of every pass of the model."""
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        for name in ("layers", "episodes", "queries", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} {getattr(self, name)} must be at least 1")
        if self.form not in PROMPT_FORMS:
            raise ValueError(f"--form {self.form!r} is none of {', '.join(PROMPT_FORMS)}")
        if self.task not in TASKS:
            raise ValueError(f"--task {self.task!r} is none of {', '.join(TASKS)}")
        self._check_places()

    def _check_places(self) -> None:
        places = {"--data": self.data, "--shards": self.shards, "--support-shards": self.support_shards}
        wanted = ("--data",) if self.task in RELEASED_TASKS else ("--shards", "--support-shards")
        if {name for name, place in places.items() if place is not None} != set(wanted):
            raise ValueError(f"--task {self.task} takes {' and '.join(wanted)}, and no other of {', '.join(places)}")
        if self.data is not None and (self.tokens or self.support_tokens):
            raise ValueError(f"--task {self.task} encodes the pictures of --data; it takes no token tables")

    @property
    def everything(self) -> bool:
        """Whether all settings are asked for, of which some may mean nothing."""
        return self.settings == ("all",)

    def chosen(self, settings: Sequence[str]) -> tuple[str, ...]:
        """The settings of a task that are asked for, all written out."""
        return tuple(settings) if self.everything else self.settings


def make_task(flags: TaskFlags, model: SPAE) -> Task:
    """The task on the words of both splits, or on released files; what it needs is read once it draws episodes.

    ValueError where a place is none, or there are not so many layers.
    """
    if flags.task in DRAWING_TASKS:
        raise ValueError(f"--task {flags.task} draws pictures, which `python -m jobs.incontext` alone does")
    check_layers(flags.layers, model.depth)
    if flags.data is not None:
        folder = place("--data", flags.data)
        data = ReleasedData(
            folder=folder,
            words=FolderWords(model, folder, flags.batch),
            layers=flags.layers,
            seed=flags.seed,
            form=flags.form,
            baseline=_baseline(flags, model, folder),
        )
        return RELEASED_TASKS[flags.task](data)
    shards, support = place("--shards", flags.shards or ""), place("--support-shards", flags.support_shards or "")
    hashes = {"shards_sha256": load_index(shards).sha256, "support_shards_sha256": load_index(support).sha256}
    splits = LabelledSplits(
        support=_split("support-", flags, model, support, flags.support_tokens),
        scored=_split("", flags, model, shards, flags.tokens),
        class_names=class_names(shards, flags.classes),
        seed=flags.seed,
        form=flags.form,
        queries=flags.queries,
        provenance={**hashes, **({"classes": list(flags.classes)} if flags.classes else {})},
    )
    return LABELLED_TASKS[flags.task](splits)


def class_names(shards: str, chosen: Sequence[str]) -> dict[int, str]:
    """Names of the labels that may be drawn; ValueError for a name that none has."""
    names = load_class_names(shards)
    if unknown := sorted(set(chosen) - set(names.values())):
        raise ValueError(f"--classes {' '.join(unknown)}: {shards} has {', '.join(names.values()) or 'no names'}")
    return {label: name for label, name in names.items() if not chosen or name in chosen}


def _baseline(flags: TaskFlags, model: SPAE, folder: str) -> FolderWords | None:
    if flags.baseline_model is None:
        return None
    baseline = SPAE.from_pretrained(place_or_name("--baseline-model", flags.baseline_model), model.device)
    return FolderWords(baseline, folder, flags.batch)


def _split(which: str, flags: TaskFlags, model: SPAE, shards: str, tokens: str | None) -> SplitWords:
    folder = None if tokens is None else place(f"--{which}tokens", tokens)
    return SplitWords(model, shards, flags.layers, flags.batch, folder)
