"""Re-read a split of shards and name everything that is not as it should be.

    python -m pipelines.verify runs/demo/shards/train
    python -m pipelines.verify runs/demo/shards/train --repair

Checks counts, checksums, keys, labels and decodability of every sample, the agreement of plan, index, sizes, sidecars
and dead letters, gaps and stray files. --repair writes the broken shards again from their source, and the index. It
takes the inputs that plan/ names; where plan/ is damaged the source is listed again and must still give the same.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from pipelines.checks.split import Split, Verification, open_split, verify_split
from pipelines.failures import is_mistake, one_line, quiet_clients, status_before_work
from pipelines.planning.plan import SplitPlan, making_plan
from pipelines.planning.record import PlanRecord, save_plan
from pipelines.shards.folder import finish_split
from pipelines.shards.writer import ShardWriter
from spae.data.publishing import delete, join
from spae.data.records import PLAN_FILE, find_split, load_classes, load_index, save_classes, shard_number
from spae.progress import tracked

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VerifyFlags:
    """Which split, and what to do about it."""

    url: tyro.conf.Positional[str]
    """Folder or URL of a split, such as runs/demo/shards/train, or the folder above where that holds one alone."""
    repair: bool = False
    """Write the broken shards again from their source, and the index."""


def repair_split(split: Split, found: Verification) -> None:
    """Write the broken shards again from the source that plan.json names, then classes and index.

    A shard whose bytes are not those recorded before is named: its inputs or the libraries have changed. ValueError
    where there is no plan.json, or where plan/ is damaged and the source lists other inputs than then.
    """
    record = split.record
    if record is None and split.is_reconstructed:
        raise ValueError(
            f"{split.folder} was rebuilt from token tables; delete the sidecars of {', '.join(found.broken[:3])} and "
            "rerun `python -m jobs.reconstruct_shards` as it was run before"
        )
    if record is None:
        raise ValueError(f"{split.folder} has no {PLAN_FILE}; rerun `python -m pipelines.images` as it was run before")
    if found.plan_is_whole:
        planned, classes = found.plan_hashes, load_classes(split.folder)
    else:
        plan = _restore_plan(record, split.folder)
        planned, classes = {shard.name: shard.plan for shard in plan.shards}, plan.classes
    writer = ShardWriter(split.folder, record.settings, classes)
    recorded = _recorded_hashes(split, found)
    for shard in tracked(found.broken, len(found.broken), "shard"):
        delete(join(split.folder, f"{shard}.json"))
        outcome = writer.write(shard_number(split.name, shard) or 0)
        logger.info("%s is written again: %d samples, %d errors", shard, outcome.samples, len(outcome.errors))
        if outcome.sha256 != recorded.get(shard, outcome.sha256):
            logger.warning("%s has other bytes than before: its inputs or the libraries have changed", shard)
    finish_split(split.name, split.folder, planned)


def _restore_plan(record: PlanRecord, folder: str) -> SplitPlan:
    """Make the plan again, and put it and the classes into the folder; ValueError where the source has changed."""
    source = record.settings.source
    with making_plan(record.settings, record.limit) as plan:
        if plan.fingerprint != record.fingerprint:
            raise ValueError(
                f"{source.name} {source.url!r} no longer holds the inputs of this split ({plan.inputs} now, "
                f"{record.inputs} then); restore them, or build the split anew with --replace"
            )
        save_plan(plan, record, folder)
    save_classes(folder, plan.classes)
    return plan


def _recorded_hashes(split: Split, found: Verification) -> dict[str, str]:
    """sha256 of each tar as its sidecar has it, or else the index."""
    try:
        hashes = {shard.name: shard.sha256 for shard in load_index(split.folder).shards}
    except ValueError:
        hashes = {}
    return hashes | {info.name: info.sha256 for info in found.infos}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all is well (or was made so), 1 where something deviates, 2 for unusable arguments."""
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(message)s")
    quiet_clients()
    flags = tyro.cli(VerifyFlags, args=arguments, prog="python -m pipelines.verify", description=__doc__)
    try:
        split = open_split(find_split(flags.url))
    except Exception as error:  # stores tell of their troubles by exceptions of many libraries
        return status_before_work(error)
    try:
        found = verify_split(split)
        _report(split, found)
        if found.deviations and flags.repair:
            repair_split(split, found)
            split = open_split(split.folder)
            found = verify_split(split)
            _report(split, found)
    except Exception as error:  # a repair that is not possible, a store that does not answer
        logger.error("%s: %s", split.folder, one_line(error), exc_info=error if is_mistake(error) else None)
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
