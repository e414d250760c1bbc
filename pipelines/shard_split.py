"""The folder of one split while it is built: what is finished, what is of other making, and its closing index.

Beside the tars and their sidecars the folder holds `plan.json`, the resolved settings, from which any shard can be
built again. One run at a time works on a split.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import fsspec

from pipelines.shard_plan import Plan, PlannedShard, ShardSettings, make_plan
from spae.publishing import TEMPORARY_MARK, delete, join, list_files, publish, read_bytes
from spae.records import (
    CLASSES_FILE,
    ERRORS_FOLDER,
    INDEX_FILE,
    INDEX_TABLE,
    SIZES_FILE,
    ClassName,
    ShardInfo,
    Sidecar,
    load_classes,
    save_classes,
    save_index,
    shard_number,
)

PLAN_FILE = "plan.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlanRecord:
    """What `plan.json` says: enough to make the plan again, and to see whether the source still gives the same."""

    settings: ShardSettings
    limit: int | None
    shards: int
    inputs: int
    fingerprint: str

    def make_plan(self) -> Plan:
        """The plan again; ValueError where the source has changed since."""
        plan = make_plan(self.settings, self.limit)
        if plan.fingerprint != self.fingerprint:
            raise ValueError(
                f"{self.settings.source.name} {self.settings.source.url!r} no longer holds the inputs of this split "
                f"({plan.inputs} now, {self.inputs} then); restore them, or build the split anew with --replace"
            )
        return plan


@dataclass(frozen=True)
class SplitState:
    """How a folder compares with a plan."""

    finished: dict[str, Sidecar]
    """Shards that stand as planned."""
    todo: tuple[PlannedShard, ...]
    conflicts: tuple[str, ...]
    """What was made otherwise and would be overwritten, one line each."""


def load_plan_record(folder: str) -> PlanRecord | None:
    """The folder's plan.json; None where there is none; ValueError where it cannot be read."""
    data = read_bytes(join(folder, PLAN_FILE))
    if data is None:
        return None
    try:
        values = json.loads(data)
        return PlanRecord(**{**values, "settings": ShardSettings.from_values(values["settings"])})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{join(folder, PLAN_FILE)} is damaged ({error}); delete it and rerun the sharding") from error


def load_sidecars(folder: str, names: Iterable[str]) -> dict[str, Sidecar]:
    """The sidecars of the named shards; those that do not exist or cannot be read are left out."""
    file_system, path = fsspec.url_to_fs(folder)
    paths = {f"{path.rstrip('/')}/{name}.json": name for name in names}
    found = file_system.cat(list(paths), on_error="omit") if paths else {}
    sidecars = {}
    for sidecar_path, name in paths.items():
        if sidecar_path not in found:
            continue
        try:
            sidecars[name] = Sidecar.from_json(found[sidecar_path].decode())
        except ValueError as error:
            logger.warning("%s: %s", sidecar_path, error)
    return sidecars


def shard_names(split: str, files: Iterable[str]) -> dict[str, int]:
    """The shards that have a tar or a sidecar among the files, and their numbers."""
    stems = {name.rsplit(".", 1)[0] for name in files if name.endswith((".tar", ".json"))}
    numbers = {stem: shard_number(split, stem) for stem in sorted(stems)}
    return {stem: number for stem, number in numbers.items() if number is not None}


def inspect_split(plan: Plan, folder: str) -> SplitState:
    """Compare a folder with a plan, without changing anything.

    The cut last shard of a pilot (--limit) is no conflict: it is written anew with all its inputs.
    """
    files = list_files(folder)
    record = load_plan_record(folder)
    other_settings = [] if record is None else _setting_conflicts(record.settings, plan.settings)
    conflicts = []
    names = shard_names(plan.settings.split, files)
    sidecars = load_sidecars(folder, [name for name in names if f"{name}.json" in files])
    finished, todo = {}, []
    for shard in plan.shards:
        sidecar = sidecars.get(shard.name)
        if sidecar and sidecar.plan == shard.plan and files.get(f"{shard.name}.tar") == sidecar.bytes:
            finished[shard.name] = sidecar
            continue
        todo.append(shard)
        if sidecar and sidecar.plan not in (
            shard.plan,
            plan.hash_of(shard.entries[: sidecar.samples + sidecar.errors]),
        ):
            conflicts.append(f"{shard.name} was made from other inputs or settings")
    beyond = [name for name, number in names.items() if number >= len(plan.shards)]
    conflicts += [f"{name} lies beyond this plan of {len(plan.shards)} shards" for name in beyond]
    return SplitState(finished, tuple(todo), tuple(other_settings or conflicts))


def prepare_split(plan: Plan, folder: str, limit: int | None, replace: bool) -> SplitState:
    """Make a folder ready for the shards that are still to be written, and record the plan.

    ValueError where shards of other making stand there, unless `replace` is given: then they are deleted, so that a run
    that is killed after this can be continued without it.
    """
    state = inspect_split(plan, folder)
    if state.conflicts and not replace:
        shown = "; ".join(state.conflicts[:3]) + (
            f"; and {len(state.conflicts) - 3} more" if state.conflicts[3:] else ""
        )
        raise ValueError(f"{folder} holds another split: {shown}. Give --replace to delete it, or another --output")
    if state.todo or state.conflicts:
        for name in (INDEX_FILE, INDEX_TABLE, SIZES_FILE):
            delete(join(folder, name))
        _delete_others(plan.settings.split, folder, keep=state.finished)
    save_classes(folder, plan.classes)
    record = PlanRecord(plan.settings, limit, len(plan.shards), plan.inputs, plan.fingerprint)
    publish(join(folder, PLAN_FILE), (json.dumps(asdict(record), indent=1) + "\n").encode())
    return state


def finish_split(plan: Plan, folder: str) -> dict[str, Sidecar]:
    """Write the index if every planned shard is finished, and clear away what killed attempts left.

    Returns the sidecars of the finished shards; where one is missing there is no index.
    """
    sidecars = load_sidecars(folder, [shard.name for shard in plan.shards])
    if len(sidecars) == len(plan.shards):
        save_index(folder, plan.settings.split, shard_infos(folder, list(sidecars.values())))
    for place in (folder, join(folder, ERRORS_FOLDER)):
        for name in list_files(place):
            if TEMPORARY_MARK in name:
                delete(join(place, name))
    return sidecars


def splits_with_other_classes(folder: str, classes: Sequence[ClassName]) -> list[str]:
    """Splits beside this one whose labels mean other classes, as happens where one of them lacks a class folder."""
    file_system, path = fsspec.url_to_fs(folder)
    tables = file_system.glob(f"{path.rstrip('/').rsplit('/', 1)[0]}/*/{CLASSES_FILE}")
    found = [file_system.unstrip_protocol(table.rsplit("/", 1)[0]) for table in tables]
    return [split for split in found if load_classes(split) != tuple(classes)]


def error_reasons(folder: str, shard: str) -> Counter[str]:
    """Unusable inputs of a shard a reason, from its dead letters."""
    data = read_bytes(join(folder, ERRORS_FOLDER, f"{shard}.jsonl")) or b""
    return Counter(json.loads(line)["reason"] for line in data.splitlines())


def shard_infos(folder: str, sidecars: Sequence[Sidecar]) -> list[ShardInfo]:
    """The index rows of finished shards."""
    return [
        ShardInfo(join(folder, f"{row.shard}.tar"), row.samples, row.bytes, row.sha256, row.errors) for row in sidecars
    ]


def _setting_conflicts(there: ShardSettings, here: ShardSettings) -> list[str]:
    before, now = _flat(asdict(there)), _flat(asdict(here))
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


def _delete_others(split: str, folder: str, keep: dict[str, Sidecar]) -> None:
    """Delete shards except those to keep, each sidecar before its tar: at no time does one vouch for a missing tar."""
    errors = join(folder, ERRORS_FOLDER)
    for name in shard_names(split, list_files(folder)):
        if name not in keep:
            delete(join(folder, f"{name}.json"))
            delete(join(folder, f"{name}.tar"))
    for name in list_files(errors):
        stem = name.removesuffix(".jsonl")
        if shard_number(split, stem) is not None and stem not in keep:
            delete(join(errors, name))
