"""One planned shard becomes one tar: read, check, write, publish.

The tar's bytes depend on the plan and the inputs alone: USTAR headers with fixed owner, mode and time, samples in
planned order, members sorted by suffix. Whoever writes a shard again writes the same bytes, so that retries and repairs
need no care. Knows nothing of Beam.
"""

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pipelines.planning.entry_rows import PlanHasher, determining, rows_to_entries
from pipelines.planning.files import PLAN_FOLDER, PlanFiles
from pipelines.planning.plan import ShardSettings
from pipelines.shards.attempts import Attempt
from pipelines.shards.inputs import InputMaker
from pipelines.shards.isolation import IsolatedMaker
from spae.data.publishing import delete, join, publish, publishing
from spae.data.records import (
    ERRORS_FOLDER,
    ClassName,
    Sidecar,
    shard_name,
)
from spae.data.sidecars import load_sidecars
from spae.data.sources import Entry
from spae.data.tar_writer import TarWriter

logger = logging.getLogger(__name__)

DEADLY = 2
"""Tries that ended with their process's death after which the inputs are made in a process of their own.

One may have been any kill; a process of its own takes some seconds to start, for each input that kills it again."""


@dataclass
class ShardOutcome:
    """What became of the inputs of one shard."""

    shard: str
    samples: int = 0
    classes: Counter[int] = field(default_factory=Counter)
    errors: list[dict[str, str]] = field(default_factory=list)
    """One row an unusable input: key, source_path, reason, details."""
    sha256: str | None = None
    """Of the tar, None where there is none for want of samples."""
    bytes: int = 0
    """Of the tar."""

    @property
    def reasons(self) -> dict[str, int]:
        """Unusable inputs a reason, most frequent first."""
        return dict(Counter(row["reason"] for row in self.errors).most_common())


@dataclass(frozen=True)
class ShardWriter:
    """Writes planned shards into a split's folder; a small value that travels to workers."""

    folder: str
    settings: ShardSettings
    classes: tuple[ClassName, ...]

    @cached_property
    def _hasher(self) -> PlanHasher:
        return PlanHasher(self.settings, self.classes)

    def write(self, number: int) -> ShardOutcome:
        """Write and publish the shard of this number: tar, errors, and last the sidecar that marks it as finished.

        Its inputs are those of the plan in the split's folder. A shard without a single usable input leaves its errors
        only: no tar and no sidecar. One that is finished (retried for its errors) stays if it had more samples.
        """
        inputs = PlanFiles(join(self.folder, PLAN_FOLDER)).read(number)
        outcome = ShardOutcome(shard_name(self.settings.split, number))
        tar_url, sidecar_url = (join(self.folder, f"{outcome.shard}.{suffix}") for suffix in ("tar", "json"))
        plan = self._hasher.hash_of(inputs)
        before = next((found for found in load_sidecars(self.folder, [outcome.shard]) if found.plan == plan), None)
        with Attempt(self.folder, outcome.shard) as attempt:
            try:
                with publishing(tar_url) as file:
                    tar = TarWriter(file)
                    self._fill(tar, rows_to_entries(inputs), outcome, attempt)
                    if outcome.samples < (before.samples if before else 1):
                        raise _TooFewError
                    tar.close()
                    delete(sidecar_url)  # at no time does it vouch for another tar
            except _TooFewError:
                if before:
                    logger.warning("%s stays: now %d of its inputs cannot be used", outcome.shard, len(outcome.errors))
                else:
                    delete(tar_url)  # of a try that was killed
                    self._publish_errors(outcome)
                return outcome
            self._publish_errors(outcome)
            outcome.sha256, outcome.bytes = tar.digest.hexdigest(), tar.size
            publish(sidecar_url, self._sidecar(outcome, plan).to_json().encode())
        return outcome

    def _fill(self, tar: TarWriter, entries: Sequence[Entry], outcome: ShardOutcome, attempt: Attempt) -> None:
        with self._maker(entries, isolated=attempt.deaths >= DEADLY) as samples:
            for number, entry in enumerate(entries):
                attempt.done(number)
                made = samples.make(entry)
                if made.reason:
                    row = {"key": entry.key, "source_path": entry.path, "reason": made.reason, "details": made.details}
                    outcome.errors.append(row)
                    continue
                for suffix in sorted(made.members):
                    tar.add(f"{entry.key}.{suffix}", made.members[suffix])
                outcome.samples += 1
                if entry.label is not None:
                    outcome.classes[entry.label] += 1

    @contextlib.contextmanager
    def _maker(self, entries: Sequence[Entry], *, isolated: bool) -> Iterator[InputMaker | IsolatedMaker]:
        if isolated:
            with IsolatedMaker(self.settings, self.classes) as maker:
                yield maker
        else:
            with self.settings.source.reading(entries) as source:
                yield InputMaker(source, self.settings.samples, self.classes)

    def _sidecar(self, outcome: ShardOutcome, plan: str) -> Sidecar:
        return Sidecar(
            shard=outcome.shard,
            samples=outcome.samples,
            errors=len(outcome.errors),
            bytes=outcome.bytes,
            sha256=outcome.sha256 or "",
            plan=plan,
            classes={str(label): count for label, count in sorted(outcome.classes.items())},
            reasons=outcome.reasons,
            settings=determining(self.settings),
        )

    def _publish_errors(self, outcome: ShardOutcome) -> None:
        url = join(self.folder, ERRORS_FOLDER, f"{outcome.shard}.jsonl")
        if outcome.errors:
            publish(url, "".join(json.dumps(row) + "\n" for row in outcome.errors).encode())
        else:
            delete(url)


class _TooFewError(Exception):
    """Ends the writing of a tar that would be empty, or poorer than the one that stands."""
