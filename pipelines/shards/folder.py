"""The folder of one split while it is built: what is finished, what is of other making, and its closing index.

Beside the tars and their sidecars the folder holds the plan: `plan.json`, the resolved settings, and `plan/`, the
inputs of every shard; from them any shard can be built again. One run at a time works on a shard.
"""

import contextlib
import json
import posixpath
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec

from pipelines.planning.entry_rows import determining
from pipelines.planning.plan import PlannedShard, ShardSettings, SplitPlan
from pipelines.planning.record import PlanRecord, load_plan_record, save_plan
from pipelines.shards.attempts import MARK_SUFFIX
from spae.data.publishing import TEMPORARY_MARK, delete, join, list_files, read_bytes
from spae.data.records import (
    CLASSES_FILE,
    ERRORS_FOLDER,
    INDEX_FILE,
    INDEX_PARQUET,
    SIZES_FILE,
    ClassName,
    ShardInfo,
    Sidecar,
    load_classes,
    save_classes,
    save_index,
    shard_number,
)
from spae.data.sidecars import load_sidecars, shard_info


@dataclass(frozen=True)
class SplitState:
    """How a folder compares with a plan."""

    part: tuple[PlannedShard, ...]
    """The shards of this run: all, or some while other runs write the others."""
    finished: frozenset[str]
    """Names of the shards that stand as planned, and stay."""
    retried: frozenset[str]
    """Of the part those that are written anew for their errors, and stay until then."""
    skipped: int
    """Inputs of its finished shards."""
    todo: tuple[PlannedShard, ...]
    conflicts: tuple[str, ...]
    """What was made otherwise and would be overwritten, one line each."""


@dataclass(frozen=True)
class SplitResult:
    """What stands in a folder after a run."""

    shards: tuple[ShardInfo, ...]
    """The finished shards of a run's part, in order."""
    unwritten: frozenset[str]
    """Names of the shards of the part that are not finished."""
    others: int
    """Planned shards of other parts that are not finished."""
    reasons: Counter[str]
    """Unusable inputs a reason, in finished shards of the part."""

    @property
    def samples(self) -> int:
        """Samples of the finished shards."""
        return sum(shard.samples for shard in self.shards)


def shard_names(split: str, files: Iterable[str]) -> dict[str, int]:
    """The shards that have a tar or a sidecar among the files, and their numbers."""
    stems = {name.rsplit(".", 1)[0] for name in files if name.endswith((".tar", ".json"))}
    numbers = {stem: shard_number(split, stem) for stem in sorted(stems)}
    return {stem: number for stem, number in numbers.items() if number is not None}


def inspect_split(
    plan: SplitPlan,
    folder: str,
    retried: Collection[str] | None = None,
    part: Sequence[PlannedShard] | None = None,
) -> SplitState:
    """Compare a folder with a plan, of which a run may write a part only, without changing anything.

    The last shard of a pilot (--limit) is no conflict: it is written anew with all its inputs. So are shards with
    errors of the `retried` reasons, all of them where it is empty; ValueError where there are none of such a reason.
    """
    files = list_files(folder)
    record = load_plan_record(folder)
    other_settings = [] if record is None else _setting_conflicts(record.settings, plan.settings)
    conflicts = []
    names = shard_names(plan.settings.split, files)
    planned = {shard.name: shard for shard in plan.shards}
    finished, reasons = set[str](), dict[str, set[str]]()
    for sidecar in load_sidecars(folder, [name for name in names if name in planned and f"{name}.json" in files]):
        shard = planned[sidecar.shard]
        if sidecar.plan == shard.plan and files.get(f"{shard.name}.tar") == sidecar.bytes:
            finished.add(shard.name)
            reasons[shard.name] = set(sidecar.reasons)
        elif sidecar.plan != shard.plan and not _is_of_pilot(sidecar, shard, plan):
            conflicts.append(f"{shard.name} was made from other inputs or settings")
    beyond = [name for name in names if name not in planned]
    conflicts += [f"{name} lies beyond this plan of {len(plan.shards)} shards" for name in beyond]
    part = plan.shards if part is None else tuple(part)
    again = _with_reasons(reasons, retried) & {shard.name for shard in part}
    finished -= again
    return SplitState(
        part,
        frozenset(finished),
        frozenset(again),
        sum(shard.inputs for shard in part if shard.name in finished),
        tuple(shard for shard in part if shard.name not in finished),
        tuple(other_settings or conflicts),
    )


def prepare_split(plan: SplitPlan, folder: str, state: SplitState, limit: int | None, replace: bool) -> None:
    """Make a folder in this state ready for the shards that are still to be written, and record the plan.

    ValueError where shards of other making stand there, unless `replace` is given: then they are deleted, so that a run
    that is killed after this can be continued without it.
    """
    if state.conflicts and not replace:
        shown = "; ".join(state.conflicts[:3]) + (
            f"; and {len(state.conflicts) - 3} more" if state.conflicts[3:] else ""
        )
        raise ValueError(f"{folder} holds another split: {shown}. Give --replace to delete it, or another --output")
    if state.todo or state.conflicts:
        for name in (INDEX_FILE, INDEX_PARQUET, SIZES_FILE):
            delete(join(folder, name))
        _delete_unfinished(plan.settings.split, folder, state)
    save_classes(folder, plan.classes)
    record = PlanRecord(plan.settings, limit, len(plan.shards), plan.inputs, plan.fingerprint)
    save_plan(plan, record, folder)


def finish_split(
    split: str, folder: str, planned: Mapping[str, str], part: Collection[str] | None = None
) -> SplitResult:
    """Write the index if every planned shard (plan hash by name) is finished, and clear away what killed attempts left.

    Where a shard is missing there is no index. With a `part` of the shards the result is of them, and what attempts at
    others left may be of other runs, and stays.
    """
    shards: list[ShardInfo] = []
    reasons = Counter[str]()
    missing = set(planned)
    for sidecar in load_sidecars(folder, planned):
        if sidecar.plan == planned[sidecar.shard]:
            missing.remove(sidecar.shard)
            shards.append(shard_info(folder, sidecar))
            reasons.update(sidecar.reasons if part is None or sidecar.shard in part else ())
    if not missing:
        save_index(folder, split, shards)
    for place in (folder, join(folder, ERRORS_FOLDER)):
        for name in list_files(place):
            shard, suffix = posixpath.splitext(name)
            is_temporary = TEMPORARY_MARK in name and (part is None or name.split(".", 1)[0] in part)
            if is_temporary or (suffix == MARK_SUFFIX and shard not in missing):
                delete(join(place, name))
    ours = frozenset(planned if part is None else part)
    finished = tuple(shard for shard in shards if shard.name in ours)
    return SplitResult(finished, ours & missing, len(missing - ours), reasons)


def splits_with_other_classes(folder: str, classes: Sequence[ClassName]) -> list[str]:
    """Splits beside this one whose labels mean other classes, as happens where one of them lacks a class folder.

    What cannot be listed or read there, and a classes.parquet of others, is none.
    """
    file_system, path = fsspec.url_to_fs(folder)
    root = path.rstrip("/").rsplit("/", 1)[0] or "/"
    found: list[str] = []
    with contextlib.suppress(OSError):
        beside = [row["name"].rstrip("/") for row in file_system.ls(root, detail=True) if row["type"] == "directory"]
        for classes_path in sorted(file_system.cat([f"{name}/{CLASSES_FILE}" for name in beside], on_error="omit")):
            with contextlib.suppress(ValueError, OSError):
                url = file_system.unstrip_protocol(classes_path)
                if load_classes(url) != tuple(classes):
                    found.append(url.rsplit("/", 1)[0])
    return found


def error_reasons(folder: str, shard: str) -> Counter[str]:
    """Unusable inputs of a shard a reason, from its dead letters."""
    data = read_bytes(join(folder, ERRORS_FOLDER, f"{shard}.jsonl")) or b""
    return Counter(json.loads(line)["reason"] for line in data.splitlines())


def _with_reasons(found: Mapping[str, set[str]], retried: Collection[str] | None) -> set[str]:
    """The shards, of which these reasons are found, that have errors of the retried ones."""
    if retried is None:
        return set()
    known = set[str]().union(*found.values())
    if unknown := sorted(set(retried) - known):
        there = ", ".join(sorted(known)) or "none at all"
        raise ValueError(f"--retry-errors {unknown[0]!r}: no finished shard has such errors; there are {there}")
    return {shard for shard, reasons in found.items() if reasons & (set(retried) or known)}


def _is_of_pilot(sidecar: Sidecar, shard: PlannedShard, plan: SplitPlan) -> bool:
    """Whether this is the last shard of a pilot: it has the first of its planned inputs only, or some of the next."""
    inputs = sidecar.samples + sidecar.errors
    return inputs != shard.inputs and sidecar.plan == plan.hash_of_first(shard.number, inputs)


def _setting_conflicts(there: ShardSettings, here: ShardSettings) -> list[str]:
    before, now = _flat(determining(there)), _flat(determining(here))
    return [
        f"{name} is {before.get(name)!r} there, {now.get(name)!r} here"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by names such as source.url."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _delete_unfinished(split: str, folder: str, state: SplitState) -> None:
    """Delete what stands of the shards to be written, and where there are conflicts of all but the finished ones.

    Each sidecar goes before its tar: at no time does one vouch for a missing tar. Marks of tries stay where the same
    shards will be tried again.
    """
    todo = {shard.name for shard in state.todo}

    def goes(shard: str) -> bool:
        return shard not in state.finished | state.retried and (bool(state.conflicts) or shard in todo)

    errors, files = join(folder, ERRORS_FOLDER), list_files(folder)
    for name in filter(goes, shard_names(split, files)):
        delete(join(folder, f"{name}.json"))
        delete(join(folder, f"{name}.tar"))
    for name in files:
        if state.conflicts and name.endswith(MARK_SUFFIX):
            delete(join(folder, name))
    for name in list_files(errors):
        stem = name.removesuffix(".jsonl")
        if shard_number(split, stem) is not None and goes(stem):
            delete(join(errors, name))
