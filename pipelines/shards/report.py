"""What a command that writes shards tells: before the work by --dry-run, and after it."""

import logging

from pipelines.amounts import bytes_text, time_text
from pipelines.planning.plan import SplitPlan
from pipelines.shards.folder import SplitResult, SplitState, error_reasons

SHOWN = 5
"""Shards of other making that --dry-run names."""

logger = logging.getLogger(__name__)


def show_plan(plan: SplitPlan, state: SplitState, folder: str, replace: bool) -> int:
    """Tell what a run would do; 2 where what stands there is in its way, else 0."""
    classes = f"{len(plan.classes)} classes" if plan.classes else "no class"
    logger.info("%s: %d inputs of %s in %d shards", folder, plan.inputs, classes, len(plan.shards))
    if state.finished:
        logger.info("%d shards are finished", len(state.finished))
    if state.todo:
        logger.info("%d shards are to be written", len(state.todo))
        _show_cost(plan, state)
    for problem, count in plan.problems.most_common():
        logger.info("%d inputs cannot be used: %s", count, problem)
    for conflict in state.conflicts[:SHOWN]:
        logger.info("in the way: %s", conflict)
    if state.conflicts and not replace:
        logger.error("%s holds another split; give --replace to delete it, or another --output", folder)
        return 2
    return 0


def _show_cost(plan: SplitPlan, state: SplitState) -> None:
    size, unsized = sum(shard.bytes for shard in state.todo), sum(shard.unsized for shard in state.todo)
    rate = plan.settings.samples.bytes_per_second
    if size:
        logger.info(
            "%s to read, %s of one worker process if it reads %s a second, as it did on a machine of two cores",
            *(bytes_text(size), time_text(size / rate), bytes_text(rate)),
        )
    if unsized and size:
        logger.info("these count without %d inputs, of whose size the listing tells nothing", unsized)
    elif unsized:
        logger.info("the listing tells no size of %d inputs; a pilot, as by --limit 1000, tells the time", unsized)


def report_split(state: SplitState, result: SplitResult, folder: str, max_error_share: float, seconds: float) -> int:
    """Tell what stands of a run's part of a split after so many seconds; 0 where that is all it should be, else 1."""
    reasons, inputs = result.reasons, sum(shard.inputs for shard in state.part)
    missing = []
    for shard in (shard for shard in state.part if shard.name in result.unwritten):
        shard_reasons = error_reasons(folder, shard.name)
        if shard_reasons.total() == shard.inputs:
            reasons = reasons + shard_reasons
            logger.error("%s has no usable input and is not written: %s", shard.name, dict(shard_reasons))
        else:
            missing.append(shard.name)
    written = inputs - state.skipped
    logger.info(
        "in %d, out %d, failed %d; skipped %d that were finished before; %d shards in %.1f s (%.0f inputs/s): %s",
        *(inputs, result.samples, reasons.total(), state.skipped, len(result.shards)),
        *(seconds, written / seconds, folder),
    )
    for reason, count in reasons.most_common():
        logger.info("%d failed: %s", count, reason)
    if result.others:
        logger.info("%d shards of other parts are not written; with the last one comes the index", result.others)
    if missing:
        message = "%d shards are not written, %s first; the runner ended without them. Give the same command again"
        logger.error(message, len(missing), missing[0])
        return 1
    if result.unwritten:
        logger.error("there is no index without these %d shards; remove or mend their inputs", len(result.unwritten))
        return 1
    if reasons.total() > max_error_share * inputs:
        share = reasons.total() / inputs
        logger.error("%.2f%% of the inputs failed, over --max-error-share %g", 100 * share, max_error_share)
        return 1
    return 0
