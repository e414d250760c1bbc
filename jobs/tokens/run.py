"""A tokenizing run: shards through decoding and encoding, and what is told when it is over."""

import dataclasses
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from jobs.resources import CPU
from jobs.retries import persistently
from jobs.tokens import metrics
from jobs.tokens.actors import FailureWatch, ModelActors
from jobs.tokens.catalog import TableCatalog
from jobs.tokens.classes import publish_classes
from jobs.tokens.dataset_card import publish_dataset_card
from jobs.tokens.decoding import decode_shard, decoded_bytes
from jobs.tokens.encoding import ShardEncoder
from jobs.tokens.job import TokenJob
from jobs.tokens.messages import FailedShard, Outcome, TokenizedShard
from jobs.tokens.plan import TokenPlan, warn_of_mixture
from jobs.tokens.pool import ATTEMPTS, ActorPool
from jobs.tokens.precision import measure_agreement
from jobs.tokens.usage import UsageWatch
from spae.data.publishing import join, publish
from spae.data.records import ERRORS_FOLDER
from spae.data.sources import Shard
from spae.data.token_table import VOCABULARY_FILE, FoundTokenTable, each_token_table, publish_manifest
from spae.model import SPAE
from spae.progress import tracked

logger = logging.getLogger(__name__)


@dataclass
class RunCounts:
    """What became of a run: samples read, those of them without words, shards with and without a table."""

    read: int = 0
    failed: int = 0
    shards: int = 0
    missing: int = 0
    seconds: float = 0.0
    first_missing: list[str] = field(default_factory=list)

    def note(self, outcome: Outcome) -> None:
        """Count a shard."""
        samples = outcome.shard.samples or 0
        self.read += samples
        if isinstance(outcome, TokenizedShard):
            self.failed += outcome.errors
            self.shards += 1
            return
        self.failed += samples
        self.missing += 1
        self.first_missing += [outcome.shard.name] if len(self.first_missing) < 10 else []


def carry_out(
    plan: TokenPlan,
    tables: TableCatalog,
    job: TokenJob,
    model: SPAE,
    actors: ModelActors,
    max_error_share: float,
    *,
    may_grow: bool = False,
) -> int:
    """Write the tables of a plan and what belongs beside them; 0 where every shard has one and few samples are lost."""
    words = model.vocabulary.words_parquet()
    persistently("publishing the vocabulary", lambda: publish(join(job.output, VOCABULARY_FILE), words))
    persistently("publishing the classes", lambda: publish_classes((*plan.done, *plan.todo), job.output))
    job = with_agreement(plan, job, actors)
    outcomes = tokenize(plan, job, actors, may_grow=may_grow) if plan.todo else ()
    counts = gather(outcomes, plan, tables, UsageWatch(job.batch))
    return finish(plan, tables, job, counts, max_error_share)


def with_agreement(plan: TokenPlan, job: TokenJob, actors: ModelActors) -> TokenJob:
    """The job with the share of words that are float32's, by a task that has what an actor has; it is told too.

    It is of the first shard of all, done or not, so that a run that is continued writes the same.
    """
    if job.dtype == "float32" or not plan.todo or plan.first is None:
        return job
    options: dict[str, Any] = actors.resources
    agreement = ray.get(ray.remote(**options)(measure_agreement).remote(plan.first, job))
    if agreement is None:
        logger.warning("%s has no picture by which %s can be compared with float32", plan.first.name, job.dtype)
    else:
        logger.info("%s: %.3f%% of the words in %s are float32's", plan.first.name, 100 * agreement, job.dtype)
    return dataclasses.replace(job, agreement=agreement)


def tokenize(plan: TokenPlan, job: TokenJob, actors: ModelActors, *, may_grow: bool = False) -> Iterator[Outcome]:
    """Decode and encode on the cluster; yields what became of each shard, in the order in which they finish."""
    watch = FailureWatch("gets no table")
    cpus = int(ray.cluster_resources().get(CPU, 1) / actors.workers)
    job = dataclasses.replace(job, parts_at_once=max(1, min(job.parts_at_once, cpus)))
    options: dict[str, Any] = {
        "num_cpus": job.decoder_cpus,
        "memory": actors.memory_beside or None,
        "max_retries": 2,
        "scheduling_strategy": "SPREAD",
    }
    decode: Any = ray.remote(**options)(decode_shard)
    pool: ActorPool[Shard, Outcome] = ActorPool(
        lambda: actors.start(ShardEncoder, job, calls=2),  # one publishes while the other computes
        "tokenize",
        actors.pool_size(may_grow=may_grow),
        failed=FailedShard,
        prepare=lambda shard: decode.remote(shard, job),
        weight=lambda shard: decoded_bytes(shard, job),
        rescue=lambda shard: decode.options(max_retries=ATTEMPTS).remote(shard, job, isolated=True),
    )
    for outcome in pool.run(plan.todo):
        watch.note(outcome.shard.name, outcome.reason if isinstance(outcome, FailedShard) else "")
        yield outcome


def gather(outcomes: Iterable[Outcome], plan: TokenPlan, tables: TableCatalog, usage: UsageWatch) -> RunCounts:
    """Count what becomes of the shards of a run while it is shown, note their tables, and tell what was used."""
    begin, counts = time.monotonic(), RunCounts()
    total = None if plan.uncounted else plan.samples
    for outcome in tracked(outcomes, total, "image", lambda outcome: outcome.shard.samples or 0):
        counts.note(outcome)
        metrics.count(outcome)
        if isinstance(outcome, TokenizedShard):
            tables.put(outcome.shard.name, FoundTokenTable(outcome.footer, outcome.bytes))
            usage.note(outcome.footer.rows, outcome.usage)
    counts.seconds = time.monotonic() - begin
    usage.log()
    return counts


def finish(plan: TokenPlan, tables: TableCatalog, job: TokenJob, counts: RunCounts, max_error_share: float) -> int:
    """Write what the tables tell beside them and judge; 0 where every shard has one and few samples are lost."""
    persistently("reading what others wrote", lambda: _note_others(tables, job.output))
    persistently("publishing the manifest", lambda: publish_manifest(job.output, tables))
    persistently("publishing the card", lambda: publish_dataset_card(job.output, tables))
    warn_of_mixture(tables)
    (skipped, errors_before), (written, errors) = (_totals(shards, tables) for shards in (plan.done, plan.todo))
    logger.info(
        "in %d, out %d, failed %d; skipped %d that were done; %d shards in %.1f s, %.0f images/s: %s",
        *(counts.read, counts.read - counts.failed, counts.failed, skipped, counts.shards, counts.seconds),
        *((counts.read - counts.failed) / max(counts.seconds, 1e-9), job.output),
    )
    if counts.missing:
        names = ", ".join(counts.first_missing)
        logger.error("%d shards have no table: %s; mend them and rerun", counts.missing, names)
    if too_many := errors_before + errors > max_error_share * (skipped + written):
        logger.error(
            "%d of %d samples cannot be decoded, over --max-error-share %g; see %s/%s",
            *(errors_before + errors, skipped + written, max_error_share, job.output, ERRORS_FOLDER),
        )
    return 1 if counts.missing or too_many else 0


def _note_others(tables: TableCatalog, output: str) -> None:
    """Tables that other runs wrote into the folder meanwhile; those of this run are known by their workers."""
    for name, table in each_token_table(output, lambda name, size: name in tables and tables[name].bytes == size):
        tables.put(name, table)


def _totals(shards: Iterable[Shard], tables: Mapping[str, FoundTokenTable]) -> tuple[int, int]:
    """Samples and errors of the shards that have a table."""
    samples = errors = 0
    for shard in shards:
        if shard.name in tables and (footer := tables[shard.name].footer) is not None:
            samples, errors = samples + footer.samples, errors + footer.errors
    return samples, errors
