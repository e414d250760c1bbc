"""Re-read a split of shards and name everything that is not as it should be.

    python -m pipelines.verify runs/demo/shards/train
    python -m pipelines.verify runs/demo/shards/train --repair

Checks counts, checksums, keys, labels and decodability of every sample, the agreement of index, sizes, sidecars and
dead letters, gaps and stray files. --repair writes the broken shards again from their source, and the index.
"""

import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import fsspec
import pyarrow.parquet as pq
import tyro

from pipelines.shard_check import ShardCheck, ShardChecker
from pipelines.shard_progress import tracked
from pipelines.shard_split import (
    PLAN_FILE,
    PlanRecord,
    finish_split,
    load_plan_record,
    load_sidecars,
    shard_infos,
    shard_names,
)
from pipelines.shard_writer import ShardWriter
from spae.publishing import absolute, delete, join, read_bytes
from spae.records import (
    CLASSES_FILE,
    ERRORS_FOLDER,
    INDEX_TABLE,
    Sidecar,
    index_files,
    load_class_names,
    load_index,
    save_classes,
    shard_name,
    shard_number,
)

SHOWN = 5
"""Deviations of one shard that are printed; the rest is counted."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VerifyFlags:
    """Which split, and what to do about it."""

    url: tyro.conf.Positional[str]
    """Folder or URL of one split, such as runs/demo/shards/train."""
    repair: bool = False
    """Write the broken shards again from their source, and the index."""


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
    sidecars: dict[str, Sidecar]


@dataclass(frozen=True)
class Verification:
    """What was found: everything that is wrong, and the shards that must be written again."""

    deviations: tuple[str, ...]
    broken: tuple[str, ...]
    samples: int
    errors: int


def open_split(folder: str) -> Split:
    """Look at a folder without reading its tars; ValueError where it holds nothing."""
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
    return Split(folder, files, name, record, shards, load_sidecars(folder, shards))


def verify_split(split: Split) -> Verification:
    """Check a whole split: every shard is read once, several at a time."""
    class_names = _class_names(split)
    checker = ShardChecker(split.folder, class_names, split.record.settings if split.record else None)
    deviations = [*_folder_deviations(split), *_index_deviations(split)]
    if class_names is None:
        deviations.append(f"{CLASSES_FILE} is missing or damaged: labels are not checked")
    broken: list[str] = []
    seen: set[str] = set()
    samples = errors = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = pool.map(lambda shard: _check_shard(split, checker, shard), split.shards)
        for check in tracked(checks, len(split.shards), "shard"):
            check.deviations += [f"key {key} occurs again" for key in _repeated(check.keys, seen)]
            samples, errors = samples + check.samples, errors + len(check.keys) - check.samples
            if check.deviations:
                broken.append(check.shard)
                deviations += [f"{check.shard}: {line}" for line in check.deviations[:SHOWN]]
            if len(check.deviations) > SHOWN:
                deviations.append(f"{check.shard}: and {len(check.deviations) - SHOWN} more")
    if split.record and samples + errors != split.record.inputs:
        deviations.append(
            f"{samples} samples and {errors} errors are not the {split.record.inputs} inputs of {PLAN_FILE}"
        )
    return Verification(tuple(deviations), tuple(broken), samples, errors)


def repair_split(split: Split, broken: Sequence[str]) -> None:
    """Write the broken shards again from the source that plan.json names, then classes and index.

    A shard whose bytes are not those recorded before is named: its inputs or the libraries have changed. ValueError
    where there is no plan.json or the source lists other inputs.
    """
    if split.record is None:
        raise ValueError(f"{split.folder} has no {PLAN_FILE}; rerun `python -m pipelines.images` as it was run before")
    plan = split.record.make_plan()
    writer = ShardWriter(split.folder, plan.settings, plan.classes)
    recorded = _recorded_hashes(split)
    chosen = [shard for shard in plan.shards if shard.name in broken]
    for shard in tracked(chosen, len(chosen), "shard"):
        delete(join(split.folder, f"{shard.name}.json"))
        outcome = writer.write(shard)
        logger.info("%s is written again: %d samples, %d errors", shard.name, outcome.samples, len(outcome.errors))
        if outcome.sha256 != recorded.get(shard.name, outcome.sha256):
            logger.warning("%s has other bytes than before: its inputs or the libraries have changed", shard.name)
    save_classes(split.folder, plan.classes)
    finish_split(plan, split.folder)


def _check_shard(split: Split, checker: ShardChecker, shard: str) -> ShardCheck:
    sidecar = split.sidecars.get(shard)
    if f"{shard}.tar" not in split.files:
        return ShardCheck(shard, ["its tar is missing"])
    check = checker.check(shard, sidecar)
    if split.record:
        size, index = split.record.settings.samples_per_shard, shard_number(split.name, shard) or 0
        inputs = min(size, split.record.inputs - index * size)
        if len(check.keys) != inputs:
            check.deviations.append(f"{len(check.keys)} samples and errors, {inputs} inputs are planned")
    return check


def _recorded_hashes(split: Split) -> dict[str, str]:
    """sha256 of each tar as its sidecar has it, or else the index."""
    try:
        hashes = {shard.name: shard.sha256 for shard in load_index(split.folder).shards}
    except ValueError:
        hashes = {}
    return hashes | {name: sidecar.sha256 for name, sidecar in split.sidecars.items()}


def _repeated(keys: Sequence[str], seen: set[str]) -> Iterator[str]:
    """The keys that were seen before, here or earlier; all of them are remembered."""
    for key in keys:
        if key in seen:
            yield key
        seen.add(key)


def _class_names(split: Split) -> dict[int, str] | None:
    """None where the table is missing or damaged, so that one deviation is not reported for every sample."""
    try:
        return load_class_names(split.folder)
    except (ValueError, OSError, TypeError):  # what pyarrow raises on a damaged file, and another table's columns
        return None


def _folder_deviations(split: Split) -> Iterator[str]:
    if split.record is None:
        yield f"{PLAN_FILE} is missing or damaged: nothing says how many shards there should be, nor how they were made"
    known = set(index_files(split.name, []))
    for name in sorted(known - split.files):
        yield f"{name} is missing"
    known |= {PLAN_FILE, CLASSES_FILE}
    for shard in split.shards:
        known |= {f"{shard}.tar", f"{shard}.json"}
        if shard not in split.sidecars or split.sidecars[shard].errors:
            known.add(f"{ERRORS_FOLDER}/{shard}.jsonl")
    for name in sorted(split.files - known):
        yield f"stray file {name}"


def _index_deviations(split: Split) -> Iterator[str]:
    infos = shard_infos(split.folder, [split.sidecars[name] for name in split.shards if name in split.sidecars])
    for name, expected in index_files(split.name, infos).items():
        content = read_bytes(join(split.folder, name))
        if content is not None and not _same_content(name, content, expected):
            yield f"{name} does not say what the sidecars say"


def _same_content(name: str, content: bytes, expected: bytes) -> bool:
    if name != INDEX_TABLE:
        return content == expected
    try:
        return bool(pq.read_table(io.BytesIO(content)).equals(pq.read_table(io.BytesIO(expected))))
    except (OSError, ValueError):  # what pyarrow raises on a damaged file
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all is well (or was made so), 1 where something deviates, 2 for unusable arguments."""
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(message)s")
    flags = tyro.cli(VerifyFlags, args=arguments, prog="python -m pipelines.verify", description=__doc__)
    try:
        split = open_split(absolute(flags.url))
    except ValueError as error:
        logger.error("%s", error)
        return 2
    try:
        found = verify_split(split)
        _report(split, found)
        if found.deviations and flags.repair:
            repair_split(split, found.broken)
            split = open_split(split.folder)
            found = verify_split(split)
            _report(split, found)
    except (ValueError, OSError) as error:  # a repair that is not possible, a store that does not answer
        logger.error("%s: %s", split.folder, error or repr(error))
        return 1
    return 1 if found.deviations else 0


def _report(split: Split, found: Verification) -> None:
    for line in found.deviations:
        logger.error("%s", line)
    logger.info(
        "%s: %d shards, %d samples, %d errors; %d deviations, %d broken shards",
        *(split.folder, len(split.shards), found.samples, found.errors, len(found.deviations), len(found.broken)),
    )


if __name__ == "__main__":
    sys.exit(main())
