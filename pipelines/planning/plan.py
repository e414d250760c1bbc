"""Which input goes into which shard, at which place: decided before any of them is read.

A shard is a range of the order of pipelines/planning/order.py. The hash of a planned shard covers all that determines
its tar, so that a finished shard is recognised, and one of other making is never taken for it. The inputs themselves
stand in Parquet files, one row group a shard (pipelines/planning/files.py): whoever plans holds counts only, and a
worker reads the rows of its own shard.
"""

import contextlib
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.planning.entry_rows import PlanHasher
from pipelines.planning.files import PlanFiles, PlanWriter, cut, join_short_last
from pipelines.planning.order import NoRoomError, ordered_entries
from pipelines.samples.images import ImageSamples
from pipelines.samples.maker import SampleMaker
from pipelines.samples.videos import VideoSamples
from spae.data.publishing import DISK_ERRNOS
from spae.data.records import ClassName, check_split, shard_name
from spae.data.scratch import ScratchFolder
from spae.data.sources import Source, SourceSettings

SAMPLE_MAKERS = {"images": ImageSamples, "clips": VideoSamples}
FORMAT_VERSION = 4
"""Of the tars that pipelines/shards/writer.py makes; another one marks all shards as of other making.

Since 4 a last shard of less than a quarter of the inputs, or of one, joins the one before: a bad input could leave it
without a sample."""


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """All that determines the tars of a split besides the content of its source."""

    source: SourceSettings
    samples: SampleMaker
    seed: int
    samples_per_shard: int
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        check_split(self.split)
        if self.samples_per_shard < 1:
            raise ValueError(f"samples_per_shard={self.samples_per_shard} must be at least 1")

    @property
    def split(self) -> str:
        """Name of the split."""
        return self.source.split

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "ShardSettings":
        """Undo `asdict`; KeyError or TypeError where these are other values."""
        source = SourceSettings(**values["source"])
        samples = SAMPLE_MAKERS[values["samples"]["kind"]](**values["samples"])
        return cls(**{**values, "source": source, "samples": samples})


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """What is remembered of one shard to be written; its inputs stand in the plan's files."""

    name: str
    number: int
    inputs: int
    bytes: int
    """Bytes to read, as far as the source's listing tells."""
    unsized: int
    """Inputs that may become samples and of which it tells no size."""
    plan: str
    """Hash of all that determines its tar."""


@dataclass(frozen=True)
class SplitPlan:
    """A whole split before it is written."""

    settings: ShardSettings
    classes: tuple[ClassName, ...]
    files: PlanFiles
    shards: tuple[PlannedShard, ...]
    problems: Counter[str]
    """Inputs that can be no sample, as far as the source's listing tells, a reason."""

    @property
    def inputs(self) -> int:
        """How many inputs the shards take."""
        return sum(shard.inputs for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """Hash of all planned shards."""
        return plan_fingerprint(shard.plan for shard in self.shards)

    def hash_of_first(self, number: int, inputs: int) -> str:
        """The hash of this shard if it takes so many inputs, as the last one of a pilot does: fewer, or some more."""
        rows = self.files.read(number)
        if rows.num_rows < inputs and number + 1 < len(self.shards):
            rows = pa.concat_tables([rows, self.files.read(number + 1)])
        return PlanHasher(self.settings, self.classes).hash_of(rows.slice(0, inputs))


def plan_fingerprint(shard_hashes: Iterator[str]) -> str:
    """Hash of the plan hashes of all shards, in order."""
    digest = hashlib.sha256()
    for shard_hash in shard_hashes:
        digest.update(shard_hash.encode())
    return digest.hexdigest()


@contextlib.contextmanager
def making_plan(settings: ShardSettings, limit: int | None = None) -> Iterator[SplitPlan]:
    """List the source and cut its shuffled order into shards; `limit` takes the first inputs of that order only.

    The plan's files stand in a local temporary folder while the block runs. ValueError where the source has no inputs.
    """
    with ScratchFolder("plan") as folder:
        try:
            plan = plan_into(folder, settings, settings.source.open(), limit)
        except OSError as error:
            if error.errno not in DISK_ERRNOS:
                raise
            raise NoRoomError(f"no room to plan in {folder} (TMPDIR names another disk): {error}") from error
        yield plan


def plan_into(folder: str, settings: ShardSettings, source: Source, limit: int | None) -> SplitPlan:
    """SplitPlan with the inputs of this source, and the plan's files in this local folder."""
    classes = source.classes()
    hasher = PlanHasher(settings, classes)
    shards: list[PlannedShard] = []
    problems = Counter[str]()

    inputs = itertools.chain.from_iterable(map(settings.samples.inputs, source.entries()))
    ordered = ordered_entries(inputs, settings.seed, limit)
    cuts = cut(ordered, settings.samples_per_shard)
    if settings.format_version > 3:
        cuts = join_short_last(cuts, settings.samples_per_shard)
    with PlanWriter(folder) as writer:
        for number, rows in enumerate(cuts):
            writer.add(rows)
            name, size = shard_name(settings.split, number), pc.sum(rows["size"]).as_py() or 0
            unsized = rows["size"].filter(pc.equal(rows["problem"], "")).null_count
            shards.append(PlannedShard(name, number, rows.num_rows, size, unsized, hasher.hash_of(rows)))
            problems.update({row["values"]: row["counts"] for row in pc.value_counts(rows["problem"]).to_pylist()})
    if not shards:
        raise ValueError(f"no inputs in {settings.source.name} {settings.source.url!r} with limit={limit}")
    del problems[""]
    return SplitPlan(settings, classes, PlanFiles(folder), tuple(shards), problems)
