"""What a reconstructing run has to do: which tables fit, what their shards are called, and which of these stand."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jobs.tokens.reconstruction import PlannedTar, ReconstructionJob
from spae.data.publishing import TEMPORARY_MARK, delete, join, list_files
from spae.data.records import (
    ERRORS_FOLDER,
    INDEX_FILE,
    INDEX_PARQUET,
    PLAN_FILE,
    RECONSTRUCTION,
    SIZES_FILE,
    ClassName,
    ShardInfo,
    Sidecar,
    check_split,
    save_classes,
    save_index,
    shard_name,
    shard_number,
)
from spae.data.sidecars import load_sidecars, shard_info
from spae.data.token_table import FoundTokenTable, TokenTableFooter, token_table_url
from spae.model import SPAE

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedSplit:
    """A split to be: its shards in order, and how its folder compares."""

    name: str
    folder: str
    shards: tuple[PlannedTar, ...]
    done: frozenset[str]
    """Names of the shards that stand as planned."""
    conflicts: tuple[str, ...]
    """What was made otherwise and is in the way, one line each."""
    others: tuple[str, ...]
    """Shards in the folder that no table has."""


def common_footer(tables: Mapping[str, FoundTokenTable], folder: str) -> TokenTableFooter:
    """The footer of the table with the fewest layers.

    ValueError where there is none, one is damaged or foreign, or they are of several models.
    """
    if not tables:
        raise ValueError(f"{folder} holds no token tables; give the --output of `python -m jobs.tokenize_shards`")
    footers: dict[str, TokenTableFooter] = {}
    for table in tables.values():
        if table.footer is None:
            raise ValueError(f"{table.problem}; delete it, or write it anew with `python -m jobs.tokenize_shards`")
        for name, count in (("views", table.footer.views), ("clips", table.footer.clips or 1)):
            if count > 1:
                raise ValueError(
                    f"{table.footer.source_shard}.parquet in {folder} holds {count} {name} of each sample; give tables "
                    f"that were written without --{name}"
                )
        known = footers.setdefault(table.footer.model_fingerprint, table.footer)
        footers[table.footer.model_fingerprint] = min(known, table.footer, key=lambda footer: footer.layers)
    if len(footers) > 1:
        shown = ", ".join(f"{footer.source_shard} of {model}" for model, footer in footers.items())
        raise ValueError(f"the tables in {folder} are of several models: {shown}; give each a folder of its own")
    return next(iter(footers.values()))


def check_model(model: SPAE, footer: TokenTableFooter, layers: int | None) -> int:
    """How many layers are decoded; ValueError where the model's words or grids differ, or layers are not there."""
    words = model.vocabulary.words_fingerprint
    if footer.words_fingerprint != words:
        raise ValueError(
            f"the tables hold ids of the words {footer.words_fingerprint}, and the model has the words {words}; give "
            "the model that made them"
        )
    stored = footer.layers
    if layers is not None and not 1 <= layers <= stored:
        raise ValueError(f"--layers {layers} must be 1 to {stored}: so many does each table store")
    layers = stored if layers is None else layers
    if footer.grids[:layers] != model.config.grids[:layers]:
        raise ValueError(f"the tables have the grids {footer.grids}, and the model has {model.config.grids}")
    if footer.model_fingerprint != model.fingerprint:
        logger.warning(
            "the tables are of model %s and are decoded by %s, which has the same words",
            *(footer.model_fingerprint, model.fingerprint),
        )
    return layers


def plan_splits(
    tables: Mapping[str, FoundTokenTable], job: ReconstructionJob, tokens: str, output: str, split: str
) -> list[PlannedSplit]:
    """Name the shards of tables, and compare the output folder, without changing anything.

    Args:
        tables: by name, all with footers.
        job: what determines the bytes beside the tables.
        tokens: folder of the tables.
        output: folder that gets a folder for each split.
        split: name under which all tables are numbered anew, in the order of their names; "" where their names stay.
    """
    planned = []
    for name, members in ({check_split(split): sorted(tables)} if split else _named_splits(tables)).items():
        folder = join(output, name)
        footers = [(table, footer) for table in members if (footer := tables[table].footer) is not None]
        shards = tuple(
            PlannedTar(token_table_url(tokens, table), folder, shard_name(name, number), footer.rows, job.plan(footer))
            for number, (table, footer) in enumerate(footers)
        )
        planned.append(_compare(name, folder, shards, job))
    return planned


def refuse_conflicts(splits: Iterable[PlannedSplit], *, replace: bool) -> None:
    """ValueError where shards of other making stand in the folders, unless `replace` is given.

    A split that another command built is never replaced.
    """
    for split in splits:
        if PLAN_FILE in list_files(split.folder):
            raise ValueError(f"{split.folder} holds a split of raw samples; give another --output")
        if split.conflicts and not replace:
            raise ValueError(
                f"{split.folder} holds other shards: {'; '.join(split.conflicts[:3])}. Give --replace to write them "
                "anew, or another --output"
            )


def clear_folders(splits: Iterable[PlannedSplit], todo: Iterable[PlannedTar]) -> None:
    """Delete the index of each split that is to change, and shards that no table has."""
    folders = {shard.folder for shard in todo}
    for split in splits:
        if split.folder in folders or split.others:
            for name in (INDEX_FILE, INDEX_PARQUET, SIZES_FILE):
                delete(join(split.folder, name))
        for shard in split.others:
            for name in (f"{shard}.json", f"{shard}.tar", f"{ERRORS_FOLDER}/{shard}.jsonl"):
                delete(join(split.folder, name))


def finish_split(split: PlannedSplit, classes: Sequence[ClassName]) -> list[ShardInfo]:
    """The finished shards of a split; writes the index over them unless one lacks before the last of them.

    The classes too, where every sample has a label, as every split with classes promises. Clears away what killed
    attempts left.
    """
    plans = {shard.shard: shard.plan for shard in split.shards}
    sidecars = [one for one in load_sidecars(split.folder, plans) if one.plan == plans[one.shard]]
    infos = [shard_info(split.folder, sidecar) for sidecar in sidecars]
    if classes and all(sum(one.classes.values()) == one.samples for one in sidecars):
        save_classes(split.folder, classes)
    if infos and [info.name for info in infos] == [shard.shard for shard in split.shards[: len(infos)]]:
        save_index(split.folder, split.name, infos)
    for place in (split.folder, join(split.folder, ERRORS_FOLDER)):
        for name in list_files(place):
            if TEMPORARY_MARK in name:
                delete(join(place, name))
    return infos


def _named_splits(tables: Iterable[str]) -> dict[str, list[str]]:
    """Tables by split, as their names tell; ValueError where one tells none, or one is missing between others."""
    splits: dict[str, list[str]] = {}
    for name in sorted(tables):
        match = re.fullmatch(r"(.+)-\d{6,}", name)
        if not match:
            raise ValueError(f"{name}.parquet has no name such as train-000000; give --split NAME to number all anew")
        splits.setdefault(check_split(match[1]), []).append(name)
    for split, members in splits.items():
        members.sort(key=lambda name: shard_number(split, name) or 0)
        for number, name in enumerate(members):
            if shard_number(split, name) != number:
                raise ValueError(
                    f"there is no table {shard_name(split, number)}.parquet before {name}.parquet; write it with "
                    "`python -m jobs.tokenize_shards`, or give --split NAME to number all anew"
                )
    return splits


def _compare(name: str, folder: str, shards: tuple[PlannedTar, ...], job: ReconstructionJob) -> PlannedSplit:
    files = list_files(folder)
    planned = {shard.shard: shard for shard in shards}
    stems = sorted({file.rsplit(".", 1)[0] for file in files if file.endswith((".tar", ".json"))})
    numbered = [stem for stem in stems if shard_number(name, stem) is not None]
    others = tuple(stem for stem in numbered if stem not in planned)
    conflicts = [f"{stem} has no table" for stem in others]
    done: set[str] = set()
    for sidecar in load_sidecars(folder, [stem for stem in numbered if stem in planned and f"{stem}.json" in files]):
        if sidecar.plan != planned[sidecar.shard].plan:
            conflicts.append(f"{sidecar.shard} {_difference(sidecar, job)}")
        elif files.get(f"{sidecar.shard}.tar") == sidecar.bytes:
            done.add(sidecar.shard)
    return PlannedSplit(name, folder, shards, frozenset(done), tuple(conflicts), others)


def _difference(sidecar: Sidecar, job: ReconstructionJob) -> str:
    there = sidecar.settings.get(RECONSTRUCTION, {})
    for name, value in job.settings.items():
        if there.get(name) != value:
            return f"was made with {name} {there.get(name)}, here it is {value}"
    return "was made of another table, or with other names of classes"
