"""Scoring shards, one after the other or many at once on a cluster: what is needed for it, and what it leaves."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from jobs.scoring.parts import PartFolder, ReferenceFolder, identity_of
from spae.data.records import ShardInfo, SplitIndex
from spae.evaluation.judging import SeenPictures
from spae.evaluation.pictures import CROP, TokenSource, encoded_batches
from spae.evaluation.reconstruction import SplitMetrics, SplitOptions
from spae.model import SPAE


@dataclass(frozen=True)
class ShardScorer:
    """Counts a shard and publishes what it counted.

    Attributes:
        model: on its device.
        options: what is counted.
        batch: pictures of every pass.
        parts: where statistics go.
        tokens: stored words; None where pictures are encoded.
        frame_stride: of the clips of videos.
    """

    model: SPAE
    options: SplitOptions
    batch: int
    parts: PartFolder
    tokens: TokenSource | None
    frame_stride: int = 1

    def score(self, shard: ShardInfo) -> Iterator[int]:
        """Yields the samples of each batch as they are counted; publishes what it counted at the end.

        ValueError where shard or table are damaged; then nothing is published.
        """
        metrics = SplitMetrics(self.model, self.options)
        stride = self.frame_stride
        for batch in encoded_batches(self.model, [shard], self.batch, self.tokens, frame_stride=stride):
            metrics.update(batch)
            yield len(batch)
        self.parts.write(shard, metrics, self.model.device_name)


def judge_identities(
    index: SplitIndex, options: SplitOptions, size: tuple[int, ...], device: str, frame_stride: int
) -> dict[str, str]:
    """Of each judge, the hash of what decides its statistics of a split's originals."""
    common = {
        "shards": [shard.sha256 for shard in index.shards],
        "size": size,
        "crop": CROP,
        "frame_stride": frame_stride,
        "splits": (options.splits, options.seed),
        "batch": options.batch,
        "device": device,
        "torch": torch.__version__,
    }
    return {
        name: identity_of({**common, "judge": judge_description(one.judge.record)})
        for name, one in options.examiners.items()
    }


def judge_description(record: Any) -> dict[str, Any]:
    """A judge's record as JSON values."""
    return {**vars(record), "figures": dict(record.figures)}


def known_references(
    folder: ReferenceFolder, identities: Mapping[str, str], options: SplitOptions
) -> dict[str, SeenPictures] | None:
    """Every judge's statistics of the originals, None unless all are known."""
    found = {name: SeenPictures(one, options.splits) for name, one in options.examiners.items()}
    known = [folder.read(name, identities[name], seen) for name, seen in found.items()]
    return found if all(known) else None


def merged_parts(
    model: SPAE, options: SplitOptions, index: SplitIndex, parts: PartFolder
) -> tuple[SplitMetrics, list[str]]:
    """All that was counted of a split, added in the order of its shards, and the devices that counted."""
    whole, devices = SplitMetrics(model, options), set()
    for shard in index.shards:
        one = SplitMetrics(model, options)
        devices.add(parts.read(shard, one))
        whole.merge(one)
    return whole, sorted(devices)
