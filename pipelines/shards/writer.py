"""One planned shard becomes one tar: read, check, write, publish.

The tar's bytes depend on the plan and the inputs alone: USTAR headers with fixed owner, mode and time, samples in
planned order, members sorted by suffix. Whoever writes a shard again writes the same bytes, so that retries and repairs
need no care. Knows nothing of Beam.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipelines.planning.entry_rows import PlanHasher, determining, rows_to_entries
from pipelines.planning.files import PLAN_FOLDER, PlanFiles
from pipelines.planning.plan import ShardSettings
from pipelines.samples.maker import SampleMaker
from pipelines.shards.tar import TarWriter
from spae.data.media import MediaError
from spae.data.publishing import delete, join, publish, publishing
from spae.data.records import (
    ERRORS_FOLDER,
    LABEL_SUFFIX,
    METADATA_SUFFIX,
    TEXT_SUFFIX,
    ClassName,
    Sidecar,
    shard_name,
)
from spae.data.sources import Entry, Source


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
        only: no tar and no sidecar.
        """
        inputs = PlanFiles(join(self.folder, PLAN_FOLDER)).read(number)
        outcome = ShardOutcome(shard_name(self.settings.split, number))
        try:
            with publishing(join(self.folder, f"{outcome.shard}.tar")) as file:
                tar = TarWriter(file)
                self._fill(tar, rows_to_entries(inputs), outcome)
        except _NoSamplesError:
            self._publish_errors(outcome)
            return outcome
        self._publish_errors(outcome)
        outcome.sha256, outcome.bytes = tar.digest.hexdigest(), tar.size
        sidecar = Sidecar(
            shard=outcome.shard,
            samples=outcome.samples,
            errors=len(outcome.errors),
            bytes=outcome.bytes,
            sha256=outcome.sha256,
            plan=self._hasher.hash_of(inputs),
            classes={str(label): count for label, count in sorted(outcome.classes.items())},
            reasons=outcome.reasons,
            settings=determining(self.settings),
        )
        publish(join(self.folder, f"{outcome.shard}.json"), sidecar.to_json().encode())
        return outcome

    def _fill(self, tar: TarWriter, entries: Sequence[Entry], outcome: ShardOutcome) -> None:
        names = {row.label: row for row in self.classes}
        with self.settings.source.reading(entries) as source:
            for entry in entries:
                try:
                    members = sample_members(source, self.settings.samples, entry, names)
                except MediaError as error:
                    row = {"key": entry.key, "source_path": entry.path, "reason": error.reason, "details": str(error)}
                    outcome.errors.append(row)
                    continue
                except Exception as error:
                    error.add_note(f"in the input {entry.path}")
                    raise
                for suffix in sorted(members):
                    tar.add(f"{entry.key}.{suffix}", members[suffix])
                outcome.samples += 1
                if entry.label is not None:
                    outcome.classes[entry.label] += 1
        if not outcome.samples:
            raise _NoSamplesError
        tar.close()

    def _publish_errors(self, outcome: ShardOutcome) -> None:
        url = join(self.folder, ERRORS_FOLDER, f"{outcome.shard}.jsonl")
        if outcome.errors:
            publish(url, "".join(json.dumps(row) + "\n" for row in outcome.errors).encode())
        else:
            delete(url)


def sample_members(source: Source, maker: SampleMaker, entry: Entry, names: dict[int, ClassName]) -> dict[str, bytes]:
    """The members of one sample by suffix; MediaError where the input can be none.

    A source without classes gives samples without `cls`. Every sample has a `txt`, be it empty: open_clip skips others.
    """
    if entry.problem:
        raise MediaError(entry.problem)
    if entry.label is None and names:
        raise MediaError("no label")
    media = maker.media(source, entry)
    class_name = None if entry.label is None else names[entry.label]
    metadata = {
        "label": entry.label,
        "label_name": class_name and class_name.name,
        "wnid": class_name and class_name.wnid,
        **({"caption": entry.text} if entry.text else {}),
        "source_path": entry.path,
        **media.metadata,
        **({"original": _original(entry)} if entry.original else {}),
        "size": len(media.data),
        "sha256": hashlib.sha256(media.data).hexdigest(),
    }
    members = {
        media.suffix: media.data,
        TEXT_SUFFIX: (entry.text or (class_name.name if class_name else "")).encode(),
        METADATA_SUFFIX: json.dumps(metadata).encode(),
    }
    return members if entry.label is None else {**members, LABEL_SUFFIX: str(entry.label).encode()}


def _original(entry: Entry) -> Any:
    """What the input's own json says; as text where it is none."""
    try:
        return json.loads(entry.original)
    except (ValueError, RecursionError):
        return entry.original


class _NoSamplesError(Exception):
    """Ends the writing of a tar that would be empty."""
