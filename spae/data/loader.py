"""Shards to batches.

Which sample comes when is the business of `spae/data/order.py`. A rank takes every ranks-th row of each batch, so that
the shares differ by one at most and nobody waits for an uneven shard; of these a loader worker takes the rows of its
streams. One shard a stream is open at a time. An undecodable picture is named in the log and counted; grey stands in
for it, which is the same after a resume as without.

Targets and augmentation are drawn from (seed, epoch, key), never from a rank or a worker.
"""

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import fsspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from spae.config import DataConfig
from spae.data.augmentation import Image8, augment
from spae.data.batch import Batch
from spae.data.cache import ShardCache
from spae.data.media import MediaError, decode_image
from spae.data.order import StreamOrder, random_generator
from spae.data.publishing import is_local
from spae.data.records import ShardInfo, SplitIndex
from spae.data.tar import MEND, Sample, read_samples, samples_at
from spae.data.video import ClipShape, decode_clips

logger = logging.getLogger(__name__)

_GREY = 128  # of what stands in for an undecodable picture


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """What one rank needs to know to make its part of every batch."""

    index: SplitIndex
    data: DataConfig
    input_size: tuple[int, ...]
    draws: int
    """Random numbers a sample."""
    seed: int
    rank: int = 0
    ranks: int = 1
    loader_workers: int = 0
    cache: ShardCache | None = None
    """Where shards are kept; None reads them where they are, those of a store from their beginning."""

    def __post_init__(self) -> None:
        if self.ranks > self.data.batch_size:
            raise ValueError(
                f"{self.ranks} workers are more than data.batch_size={self.data.batch_size}, and some would have no "
                f"sample; give at most {self.data.batch_size} --workers"
            )

    @property
    def order(self) -> StreamOrder:
        """The order of samples, the same on every rank; each clip of a video is one."""
        clips = self.data.clips_per_video
        return StreamOrder([shard.samples * clips for shard in self.index.shards], self.data.streams, self.seed)


def batches(plan: BatchPlan, seen: int = 0) -> Iterator[Batch]:
    """Endless parts of this rank, from the point where the run has seen `seen` samples; move them with `Batch.to`."""
    workers = plan.loader_workers
    parts = iter(
        DataLoader(
            _Parts(plan, seen),
            batch_size=None,
            num_workers=workers,
            multiprocessing_context="forkserver" if workers else None,  # fsspec's file systems do not survive a fork
        )
    )
    while True:
        yield _join([next(parts) for _ in range(max(workers, 1))])


class _Parts(IterableDataset[Batch]):
    """What one loader worker contributes to each batch: samples of its own streams, in the order of their numbers."""

    def __init__(self, plan: BatchPlan, seen: int) -> None:
        self.plan, self.seen = plan, seen

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        plan, first, size = self.plan, self.seen, self.plan.data.batch_size

        def mine(number: int) -> bool:
            row, stream = (number - self.seen) % size, number % plan.data.streams
            return row % plan.ranks == plan.rank and stream // plan.ranks % workers == worker

        streams = [_pictures(plan, stream, self.seen, mine) for stream in range(plan.data.streams)]
        while True:
            numbers = [number for number in range(first, first + size) if mine(number)]
            yield _batch(plan, numbers, [next(streams[number % len(streams)]) for number in numbers])
            first += size


@dataclass(frozen=True)
class _Picture:
    key: str
    pixels: Image8
    draws: NDArray[np.float32]
    decoded: bool


def _batch(plan: BatchPlan, numbers: Sequence[int], pictures: Sequence[_Picture]) -> Batch:
    pixels = np.array([p.pixels for p in pictures], np.uint8).reshape(len(pictures), *plan.input_size, 3)
    draws = np.array([p.draws for p in pictures], np.float32).reshape(len(pictures), plan.draws)
    return Batch(
        pixels=torch.from_numpy(pixels).movedim(-1, 1).contiguous(),
        draws=torch.from_numpy(draws),
        keys=tuple(p.key for p in pictures),
        numbers=tuple(numbers),
        undecodable=sum(not p.decoded for p in pictures),
        whole=plan.data.batch_size,
    )


def _pictures(plan: BatchPlan, stream: int, seen: int, mine: Callable[[int], bool]) -> Iterator[_Picture]:
    """Endless augmented pictures or clips of a stream, those whose numbers are mine.

    Grey stands in for an undecodable one, as logged. ValueError where a shard is damaged or holds fewer samples than
    its index tells.
    """
    number = seen + (stream - seen) % plan.data.streams
    for epoch, segment in plan.order.stream(stream, seen):
        shard, clips = plan.index.shards[segment.shard], plan.data.clips_per_video
        wanted: dict[int, list[int]] = {}  # clips by the sample's place in the shard
        for clip in range(segment.start, segment.stop):
            if mine(number):
                wanted.setdefault(clip // clips, []).append(clip % clips)
            number += plan.data.streams
        found = 0
        for place, sample in zip(wanted, _samples(plan, shard, wanted), strict=False):
            found += 1
            names = [f"{sample.key}/{clip}" if clip else sample.key for clip in wanted[place]]
            generators = [random_generator(plan.seed, epoch, name) for name in names]
            for generator, decoded in zip(generators, _decode(sample, plan, generators), strict=True):
                pixels = np.full((*plan.input_size, 3), _GREY, np.uint8) if decoded is None else decoded
                draws = generator.random(plan.draws, dtype=np.float32)
                augmented = augment(pixels, plan.data, plan.input_size, generator)
                yield _Picture(sample.key, augmented, draws, decoded is not None)
        if found < len(wanted):
            raise ValueError(f"{shard.url} holds fewer than the {shard.samples} samples its index tells; {MEND}")


def _samples(plan: BatchPlan, shard: ShardInfo, places: Collection[int]) -> Iterator[Sample]:
    """The samples of a shard at these places, which rise."""
    if not places:
        return
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(plan.cache.opened(shard)) if plan.cache else None
        if file is None and is_local(shard.url):
            file = stack.enter_context(fsspec.open(shard.url, "rb"))
        if file is not None:
            yield from samples_at(file, shard.url, places)
            return
        first, last = min(places), max(places)
        for place, sample in enumerate(read_samples(shard.url, first, last + 1), first):
            if place in places:
                yield sample


def _decode(sample: Sample, plan: BatchPlan, generators: Sequence[np.random.Generator]) -> Sequence[Image8 | None]:
    """A picture, or a random clip of a video for each generator; None where it cannot be decoded."""
    try:
        if len(plan.input_size) == 2:
            return [decode_image(sample.media)]
        shape = ClipShape(plan.input_size[0], plan.data.frame_stride, plan.data.frame_rate)
        return decode_clips(sample.media, shape, [generator.random() for generator in generators])
    except MediaError as error:
        logger.warning("sample %s cannot be decoded (%s); grey stands in for it", sample.key, error)
        return [None] * len(generators)


def _join(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    numbers = [n for part in parts for n in part.numbers]
    keys = [key for part in parts for key in part.keys]
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    rows = torch.tensor(order)
    return Batch(
        pixels=torch.cat([part.pixels for part in parts])[rows],
        draws=torch.cat([part.draws for part in parts])[rows],
        keys=tuple(keys[i] for i in order),
        numbers=tuple(numbers[i] for i in order),
        undecodable=sum(part.undecodable for part in parts),
        whole=parts[0].whole,
    )
