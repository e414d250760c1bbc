"""Turn token tables back into shards of pictures with Ray.

    python -m jobs.reconstruct_shards --model runs/demo/model --tokens runs/demo/tokens --output runs/demo/rebuilt \
        --layers 3

Writes WebDataset tars of PNG with the tables' keys and labels. A rerun skips what is done: shards of the same tables,
model and number of layers.
"""

import dataclasses
import itertools
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import tyro

from jobs.cluster import connect
from jobs.paths import place, place_or_name
from jobs.resources import ResourcesError
from jobs.retries import persistently
from jobs.tokens.actors import FailureWatch, ModelActors
from jobs.tokens.cost import seconds_of
from jobs.tokens.pool import ActorPool
from jobs.tokens.reconstruction import PlannedTar, ReconstructedShard, ReconstructionJob, ShardReconstructor
from jobs.tokens.reconstruction_plan import (
    PlannedSplit,
    check_model,
    clear_folders,
    common_footer,
    finish_split,
    plan_splits,
    refuse_conflicts,
)
from spae.data.choosing import check_range, chosen
from spae.data.publishing import join, read_bytes
from spae.data.records import CLASSES_FILE, ERRORS_FOLDER, load_classes
from spae.data.token_table import find_token_tables
from spae.evaluation.pictures import decode_in_batches
from spae.model import SPAE
from spae.progress import tracked
from spae.pyramid import TokenPyramid

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReconstructFlags:
    """Which tables become pictures, by which model, and on what."""

    model: str
    """Model folder, by path, URL or hub id; its words must be the tables'."""
    tokens: str
    """Folder of token tables, all of one model."""
    output: str
    """Folder that gets a folder for each split."""
    layers: int | None = None
    """Decode the first layers only, by default all that the tables store."""
    split: str = ""
    """Number all tables anew, in the order of their names, as shards of a split of this name; by default a table
    train-000000 becomes the shard of that name in the folder train."""
    workers: int = 1
    """Actors that hold the model, on a CPU with one thread each. Bytes do not depend on their number."""
    batch: int = 64
    """Pictures of every pass of the model; recorded in the shards."""
    device: Literal["cpu", "cuda"] = "cpu"
    """cuda reserves one GPU an actor; this process itself needs none."""
    worker_cpus: float = 1.0
    """CPUs that Ray reserves for an actor."""
    limit: int | None = None
    """Take the first tables only; a later run without it keeps their shards."""
    shards: str | None = None
    """Take these tables only, by their place among all: 0..9 are the first ten."""
    max_error_share: float = 0.01
    """Share of undecodable rows above which the run counts as failed, after all is written."""
    frame_rate: float = 25.0
    """Frames a second of clips, which become mp4 files; tables do not tell that of their videos."""
    replace: bool = False
    """Write anew the shards that come from other tables, another model or another number of layers."""
    dry_run: bool = False
    """Print the plan and an estimate of its cost, and write nothing."""
    ray_address: str | None = None
    """Cluster to use, else that of RAY_ADDRESS, else one on this machine for this run alone."""
    wait_for_resources: float | None = None
    """Seconds to wait for room for all workers, then for less; by default half an hour if there is room for none."""

    def __post_init__(self) -> None:
        for name in ("layers", "workers", "batch", "limit"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"--{name} {value} must be at least 1")
        check_range(self.shards)
        if not 0 <= self.max_error_share <= 1:
            raise ValueError(f"--max-error-share {self.max_error_share} must be between 0 and 1")
        if self.worker_cpus <= 0:
            raise ValueError(f"--worker-cpus {self.worker_cpus} must be above 0")

    @property
    def actors(self) -> ModelActors:
        """Of this run."""
        return ModelActors(
            workers=self.workers,
            cpus=self.worker_cpus,
            device=self.device,
            wait_for_resources=self.wait_for_resources,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where work failed, 2 for unusable arguments."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        flags = tyro.cli(ReconstructFlags, args=arguments, description=__doc__)
        model = SPAE.from_pretrained(flags.model)  # on a CPU: the GPUs may be elsewhere
        splits, job = prepare(flags, model)
        todo = unfinished(splits, flags.shards, flags.limit)
        if flags.dry_run:
            _show_cost(todo, model, job, flags.workers)
            return 0
        may_grow = False
        if todo:
            flags = dataclasses.replace(flags, workers=min(flags.workers, len(todo)))
            may_grow = connect(flags.ray_address, num_cpus=flags.actors.local_cpus)
            fitting = flags.actors.fitting(may_grow)
            flags = flags if may_grow else dataclasses.replace(flags, workers=fitting)
    except ResourcesError as error:
        logger.error("%s", error)
        return 1
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return 2
    begin = time.monotonic()
    try:
        persistently("making room", lambda: clear_folders(splits, todo))
        rows = sum(planned.rows for planned in todo)
        done = reconstruct(todo, job, flags.actors, may_grow=may_grow) if todo else ()
        outcomes = list(tracked(done, rows, "image", lambda outcome: outcome.rows))
        return _report(splits, job, outcomes, flags, time.monotonic() - begin)
    except Exception:  # whatever Ray or a store raises: what is finished stays, and the same command continues
        logger.exception("the run failed; give the same command again to continue it")
        return 1


def prepare(flags: ReconstructFlags, model: SPAE) -> tuple[list[PlannedSplit], ReconstructionJob]:
    """What is to be done, and what the workers need to know; ValueError where it cannot be done."""
    tokens, output = place("--tokens", flags.tokens), place("--output", flags.output)
    tables = find_token_tables(tokens)
    footer = common_footer(tables, tokens)
    job = ReconstructionJob(
        model=place_or_name("--model", flags.model),
        model_fingerprint=model.fingerprint,
        tokens_model_fingerprint=footer.model_fingerprint,
        words_fingerprint=footer.words_fingerprint,
        layers=check_model(model, footer, flags.layers),
        batch=flags.batch,
        device=flags.device,
        frame_rate=flags.frame_rate if len(model.config.input_size) == 3 else None,
        classes=load_classes(join(tokens, CLASSES_FILE)) if read_bytes(join(tokens, CLASSES_FILE)) else (),
    )
    splits = plan_splits(tables, job, tokens, output, flags.split)
    refuse_conflicts(splits, replace=flags.replace)
    logger.info(
        "%s: %d shards of %s; %d are done",
        *(output, sum(len(split.shards) for split in splits), ", ".join(split.name for split in splits)),
        sum(len(split.done) for split in splits),
    )
    return splits, job


def unfinished(splits: Sequence[PlannedSplit], shards: str | None, limit: int | None) -> list[PlannedTar]:
    """The shards to be written, of those that are chosen."""
    planned = list(itertools.chain.from_iterable(split.shards for split in splits))
    done = set[str]().union(*(split.done for split in splits))
    return [tar for tar in chosen(planned, shards, limit) if tar.shard not in done]


def reconstruct(
    todo: Sequence[PlannedTar], job: ReconstructionJob, actors: ModelActors, *, may_grow: bool
) -> Iterator[ReconstructedShard]:
    """Decode on the cluster; yields what became of each shard, in the order in which they finish."""
    watch = FailureWatch("is not written")
    pool: ActorPool[PlannedTar, ReconstructedShard] = ActorPool(
        lambda: actors.start(ShardReconstructor, job),
        "reconstruct",
        actors.pool_size(may_grow=may_grow),
        failed=lambda planned, reason: ReconstructedShard(planned.shard, planned.rows, planned.rows, reason),
    )
    for outcome in pool.run(todo):
        watch.note(outcome.shard, outcome.reason)
        yield outcome


def _show_cost(todo: Sequence[PlannedTar], model: SPAE, job: ReconstructionJob, workers: int) -> None:
    ids = tuple(torch.zeros(job.batch, *grid, dtype=torch.int64) for grid in model.config.grids[: job.layers])
    seconds = seconds_of(lambda: list(decode_in_batches(model, TokenPyramid(ids), job.batch)))
    hours = sum(-(-planned.rows // job.batch) for planned in todo) * seconds / 3600
    logger.info(
        "%d shards with %d pictures to write; %.0f images/s on a CPU here, %.3g worker hours, %.3g h on %d workers",
        *(len(todo), sum(planned.rows for planned in todo), job.batch / seconds, hours, hours / workers, workers),
    )


def _report(
    splits: Sequence[PlannedSplit],
    job: ReconstructionJob,
    outcomes: Sequence[ReconstructedShard],
    flags: ReconstructFlags,
    seconds: float,
) -> int:
    """Write classes and index from the sidecars as they stand, print the counts, judge."""
    infos = persistently(
        "writing the indexes", lambda: [info for split in splits for info in finish_split(split, job.classes)]
    )
    samples, errors = (sum(getattr(info, name) for info in infos) for name in ("samples", "errors"))
    rows, failed = sum(outcome.rows for outcome in outcomes), sum(outcome.errors for outcome in outcomes)
    done = sum(planned.rows for split in splits for planned in split.shards if planned.shard in split.done)
    logger.info(
        "in %d, out %d, failed %d; skipped %d that were done; %d shards in %.1f s, %.0f images/s: %s",
        *(rows, rows - failed, failed, done, len(outcomes), seconds, (rows - failed) / seconds, flags.output),
    )
    names = {info.name for info in infos}
    missing = [planned.shard for planned in unfinished(splits, flags.shards, flags.limit) if planned.shard not in names]
    if missing:
        logger.error("%d shards are not written: %s; mend them and rerun", len(missing), ", ".join(missing[:10]))
    if too_many := errors > flags.max_error_share * (samples + errors):
        logger.error(
            "%d of %d rows cannot be decoded, over --max-error-share %g; see %s/*/%s",
            *(errors, samples + errors, flags.max_error_share, flags.output, ERRORS_FOLDER),
        )
    return 1 if missing or too_many else 0


if __name__ == "__main__":
    sys.exit(main())
