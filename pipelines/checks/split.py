"""Re-read a split of shards and name everything that is not as it should be: its shards, its plan, index and files."""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import fsspec
import numpy as np
from numpy.typing import NDArray

from pipelines.checks.shard import ShardCheck, ShardChecker
from pipelines.planning.files import PLAN_FOLDER, PlanFiles, part_name
from pipelines.planning.plan import plan_fingerprint
from pipelines.planning.record import PlanRecord, load_plan_record
from pipelines.shards.attempts import MARK_SUFFIX
from pipelines.shards.folder import shard_names
from spae.data.publishing import join, read_bytes
from spae.data.records import (
    CLASSES_FILE,
    ERRORS_FOLDER,
    INDEX_PARQUET,
    PLAN_FILE,
    ClassName,
    ShardInfo,
    index_files,
    load_classes,
    read_parquet,
    shard_name,
    shard_number,
)
from spae.data.sidecars import load_sidecars, shard_info
from spae.progress import tracked

SHOWN = 5
"""Deviations of one shard that are kept; the rest is counted."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """A split's folder as it is found."""

    folder: str
    files: frozenset[str]
    """Paths below the folder."""
    name: str
    record: PlanRecord | None
    shards: tuple[str, ...]
    """The shards that there should be."""
    is_reconstructed: bool = False
    """Whether it was rebuilt from token tables: then it has no plan, and classes only where those were known."""


@dataclass
class Verification:
    """What was found: everything that is wrong, and the shards that must be written again."""

    deviations: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    samples: int = 0
    errors: int = 0
    infos: list[ShardInfo] = field(default_factory=list)
    """What the readable sidecars say, in order."""
    plan_hashes: dict[str, str] = field(default_factory=dict)
    """Of each shard whose inputs can be read from plan/."""
    plan_is_whole: bool = False
    """Whether plan/ holds what plan.json says."""


def open_split(folder: str) -> Split:
    """Look at a folder without reading its shards; ValueError where it holds nothing."""
    file_system, path = fsspec.url_to_fs(folder)
    file_system.invalidate_cache(path)
    files = frozenset(name.removeprefix(f"{path.rstrip('/')}/") for name in file_system.find(path))
    if not files:
        raise ValueError(f"{folder} does not exist or is empty; give the folder of one split, such as shards/train")
    try:
        record = load_plan_record(folder)
    except ValueError as error:
        logger.error("%s", error)
        record = None
    name = record.settings.split if record else folder.rstrip("/").rsplit("/", 1)[-1]
    count = record.shards if record else max(shard_names(name, files).values(), default=-1) + 1
    shards = tuple(shard_name(name, index) for index in range(count))
    first = next(load_sidecars(folder, shards[:1]), None)
    return Split(folder, files, name, record, shards, PLAN_FILE not in files and bool(first and first.is_reconstructed))


def verify_split(split: Split) -> Verification:
    """Check a whole split: every shard is read once, several at a time; what is kept of each is a row."""
    classes = _classes(split)
    checker = ShardChecker(split.folder, classes, split.record.settings if split.record else None)
    found = Verification()
    if classes is None and (CLASSES_FILE in split.files or not split.is_reconstructed):
        found.deviations.append(f"{CLASSES_FILE} is missing or damaged: labels are not checked")
    key_hashes: list[NDArray[np.uint64]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = pool.map(lambda shard: _check_shard(split, checker, shard), split.shards)
        for check in tracked(checks, len(split.shards), "shard"):
            _add_check(found, check)
            if split.record is None:
                key_hashes.append(check.key_hashes())
            else:
                found.plan_hashes |= {check.shard: check.plan} if check.plan else {}
    found.deviations += [*_repeated_keys(split.shards, key_hashes), *_plan_deviations(split, found)]
    found.deviations += [*_folder_deviations(split, found), *_index_deviations(split, found)]
    return found


def _check_shard(split: Split, checker: ShardChecker, shard: str) -> ShardCheck:
    planned = None
    if split.record:
        with contextlib.suppress(ValueError, OSError):  # what pyarrow raises on a damaged file
            planned = PlanFiles(join(split.folder, PLAN_FOLDER)).read(shard_number(split.name, shard) or 0)
    sidecar = next(load_sidecars(split.folder, [shard]), None)
    if f"{shard}.tar" in split.files:
        return checker.check(shard, sidecar, planned)
    return ShardCheck(shard, ["its tar is missing"], sidecar, plan=checker.plan_hash(planned))


def _add_check(found: Verification, check: ShardCheck) -> None:
    found.samples += check.samples
    found.errors += len(check.keys) - check.samples
    if check.sidecar:
        found.infos.append(shard_info("", check.sidecar))
    if check.deviations:
        found.broken.append(check.shard)
        found.deviations += [f"{check.shard}: {line}" for line in check.deviations[:SHOWN]]
    if len(check.deviations) > SHOWN:
        found.deviations.append(f"{check.shard}: and {len(check.deviations) - SHOWN} more")


def _repeated_keys(shards: Sequence[str], key_hashes: Sequence[NDArray[np.uint64]]) -> Iterator[str]:
    """Shards with keys that occurred before, by 8 bytes of hash a key; with a plan each shard is checked alone."""
    if not key_hashes:
        return
    everything = np.concatenate(key_hashes)
    owners = np.repeat(np.arange(len(key_hashes)), [len(hashes) for hashes in key_hashes])
    order = np.argsort(everything, kind="stable")
    again = order[1:][everything[order[1:]] == everything[order[:-1]]]
    for owner, count in zip(*np.unique(owners[again], return_counts=True), strict=True):
        yield f"{shards[owner]}: {count} of its keys occur again, or in an earlier shard"


def _plan_deviations(split: Split, found: Verification) -> Iterator[str]:
    if split.record is None:
        return
    hashes = [found.plan_hashes.get(shard, "") for shard in split.shards]
    found.plan_is_whole = plan_fingerprint(iter(hashes)) == split.record.fingerprint
    if not found.plan_is_whole:
        yield f"{PLAN_FOLDER}/ does not hold the inputs that {PLAN_FILE} says: {hashes.count('')} shards unknown"
    if found.samples + found.errors != split.record.inputs:
        counts = f"{found.samples} samples and {found.errors} errors"
        yield f"{counts} are not the {split.record.inputs} inputs of {PLAN_FILE}"


def _classes(split: Split) -> tuple[ClassName, ...] | None:
    """None where they are missing or damaged, so that one deviation is not reported for every sample."""
    try:
        return load_classes(split.folder)
    except (ValueError, OSError):  # what pyarrow raises on a damaged file
        return None


def _folder_deviations(split: Split, found: Verification) -> Iterator[str]:
    if split.record is None and not split.is_reconstructed:
        yield f"{PLAN_FILE} is missing or damaged: nothing says how many shards there should be, nor how they were made"
    known = set(index_files(split.name, []))
    for name in sorted(known - split.files):
        yield f"{name} is missing"
    known |= {PLAN_FILE, CLASSES_FILE}
    known |= {f"{PLAN_FOLDER}/{part_name(number)}" for number in range(len(split.shards))}
    finished = {info.name for info in found.infos}
    without_errors = {info.name for info in found.infos if not info.errors}
    for shard in split.shards:
        known |= {f"{shard}.tar", f"{shard}.json"}
        if shard not in finished:
            known.add(f"{shard}{MARK_SUFFIX}")
        if shard not in without_errors:
            known.add(f"{ERRORS_FOLDER}/{shard}.jsonl")
    for name in sorted(split.files - known):
        yield f"stray file {name}"


def _index_deviations(split: Split, found: Verification) -> Iterator[str]:
    for name, expected in index_files(split.name, found.infos).items():
        content = read_bytes(join(split.folder, name))
        if content is not None and not _same_content(name, content, expected):
            yield f"{name} does not say what the sidecars say"


def _same_content(name: str, content: bytes, expected: bytes) -> bool:
    if name != INDEX_PARQUET:
        return content == expected
    try:
        return bool(read_parquet(content).equals(read_parquet(expected)))
    except (OSError, ValueError):  # what pyarrow raises on a damaged file
        return False
