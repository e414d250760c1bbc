"""Which input goes into which shard, at which place: decided before any of them is read.

The order is global: inputs are sorted by a hash of (seed, key), so that it depends on no runner and no worker count,
and the first N of it are a fair sample. A shard is a range of that order. The hash of a planned shard covers all that
determines its tar, so that a finished shard is recognised, and one of other making is never taken for it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipelines.clip_samples import ClipSamples
from pipelines.image_samples import ImageSamples
from pipelines.samples import SampleMaker
from spae.records import MAX_KEY_LENGTH, ClassName, check_key, check_split, shard_name
from spae.sources import Entry, SourceSettings

SAMPLE_MAKERS = {"images": ImageSamples, "clips": ClipSamples}
FORMAT_VERSION = 2
"""Of the tars that pipelines/shard_writer.py makes; another one marks all shards as of other making."""


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


@dataclass(frozen=True)
class PlannedShard:
    """One shard to be written: its inputs in order, and the hash of all that determines its bytes."""

    name: str
    entries: tuple[Entry, ...]
    plan: str

    def to_json(self) -> str:
        """A text that travels to a worker on any runner."""
        return json.dumps({**vars(self), "entries": [vars(entry) for entry in self.entries]})

    @classmethod
    def from_json(cls, text: str) -> "PlannedShard":
        """Undo `to_json`."""
        values = json.loads(text)
        return cls(values["name"], tuple(Entry(**entry) for entry in values["entries"]), values["plan"])


@dataclass(frozen=True)
class Plan:
    """A whole split before it is written."""

    settings: ShardSettings
    classes: tuple[ClassName, ...]
    shards: tuple[PlannedShard, ...]

    @property
    def inputs(self) -> int:
        """How many inputs the shards take."""
        return sum(len(shard.entries) for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Bytes to read, as far as the source's listing tells."""
        return sum(entry.size or 0 for shard in self.shards for entry in shard.entries)

    @property
    def fingerprint(self) -> str:
        """Hash of all planned shards."""
        return hashlib.sha256("".join(shard.plan for shard in self.shards).encode()).hexdigest()

    def hash_of(self, entries: Sequence[Entry]) -> str:
        """The hash that a shard of these inputs has under this plan's settings and class names."""
        return _plan_hash(self.settings, self.classes, entries)


def make_plan(settings: ShardSettings, limit: int | None = None) -> Plan:
    """List the source and cut its shuffled order into shards; `limit` takes the first inputs of that order only.

    ValueError where the source has no inputs.
    """
    source = settings.source.open()
    classes = source.classes()
    inputs = (planned for entry in source.entries() for planned in settings.samples.inputs(entry))
    entries = list(shuffled(inputs, settings.seed))[:limit]
    if not entries:
        raise ValueError(f"no inputs in {settings.source.name} {settings.source.url!r} with limit={limit}")
    size = settings.samples_per_shard
    parts = [tuple(entries[begin : begin + size]) for begin in range(0, len(entries), size)]
    shards = tuple(
        PlannedShard(shard_name(settings.split, index), part, _plan_hash(settings, classes, part))
        for index, part in enumerate(parts)
    )
    return Plan(settings, classes, shards)


def shuffled(entries: Iterable[Entry], seed: int) -> Iterator[Entry]:
    """The inputs by the hash of (seed, key), keys made unique: those with a common key stand together in this order.

    The first of them (by path) keeps its key, the others add a hash of their path.
    """
    previous = ""
    for entry in sorted(entries, key=lambda entry: (_position(seed, entry.key), entry.path)):
        check_key(entry.key)
        if entry.key != previous:
            previous = entry.key
            yield entry
        else:
            digest = hashlib.sha256(entry.path.encode()).hexdigest()[:12]
            yield replace(entry, key=f"{entry.key[: MAX_KEY_LENGTH - 13]}-{digest}")


def _position(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}|{key}".encode()).digest()


def _plan_hash(settings: ShardSettings, classes: Sequence[ClassName], entries: Sequence[Entry]) -> str:
    names = {row.label: (row.name, row.wnid) for row in classes}
    digest = hashlib.sha256(_line(asdict(settings)))
    for entry in entries:
        digest.update(_line([*vars(entry).values(), names.get(entry.label) if entry.label is not None else None]))
    return digest.hexdigest()


def _line(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode() + b"\n"
