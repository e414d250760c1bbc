"""Shards to batches.

Which sample comes when is the business of `spae/data/order.py`: a rank takes the numbers n with n mod ranks = rank, a
loader worker those of its streams, so that every rank has the same share of every batch and nobody waits for an uneven
shard. One shard a stream is open at a time. An undecodable picture is named in the log and counted; grey stands in for
it, which is the same after a resume as without.

Targets and augmentation are drawn from (seed, epoch, key), never from a rank or a worker.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from spae.config import DataConfig
from spae.data.augmentation import Image8, augment
from spae.data.batch import Batch
from spae.data.media import MediaError, decode_image
from spae.data.order import StreamOrder, random_generator
from spae.data.records import SplitIndex
from spae.data.tar import MEND, Sample, read_samples
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

    def __post_init__(self) -> None:
        readers = self.ranks * max(self.loader_workers, 1)
        if self.data.streams % readers:
            raise ValueError(
                f"data.streams={self.data.streams} must be divisible by ranks x loader workers = {readers}"
            )
        if self.data.batch_size % readers:
            raise ValueError(
                f"data.batch_size={self.data.batch_size} must be divisible by ranks x loader workers = {readers}"
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
        plan = self.plan
        readers, reader = plan.ranks * workers, worker * plan.ranks + plan.rank
        streams = {v: _pictures(plan, v, self.seen) for v in range(reader, plan.data.streams, readers)}
        share = plan.data.batch_size // readers
        number = self.seen + (reader - self.seen) % readers
        while True:
            numbers = [number + readers * step for step in range(share)]
            pictures = [next(streams[n % plan.data.streams]) for n in numbers]
            number += readers * share
            yield Batch(
                pixels=torch.from_numpy(np.stack([p.pixels for p in pictures])).movedim(-1, 1).contiguous(),
                draws=torch.from_numpy(np.stack([p.draws for p in pictures])),
                keys=tuple(p.key for p in pictures),
                numbers=tuple(numbers),
                undecodable=sum(not p.decoded for p in pictures),
            )


@dataclass(frozen=True)
class _Picture:
    key: str
    pixels: Image8
    draws: NDArray[np.float32]
    decoded: bool


def _pictures(plan: BatchPlan, stream: int, seen: int) -> Iterator[_Picture]:
    """Endless augmented pictures or clips of a stream; grey stands in for an undecodable one, as logged.

    ValueError where a shard is damaged or holds fewer samples than its index tells.
    """
    for epoch, segment in plan.order.stream(stream, seen):
        shard = plan.index.shards[segment.shard]
        missing, clips = segment.stop - segment.start, plan.data.clips_per_video
        first, stop = segment.start // clips, -(-segment.stop // clips)
        for place, sample in enumerate(read_samples(shard.url, first, stop), first):
            wanted = range(max(segment.start, place * clips), min(segment.stop, (place + 1) * clips))
            names = [f"{sample.key}/{number % clips}" if number % clips else sample.key for number in wanted]
            generators = [random_generator(plan.seed, epoch, name) for name in names]
            missing -= len(wanted)
            for generator, decoded in zip(generators, _decode(sample, plan, generators), strict=True):
                pixels = np.full((*plan.input_size, 3), _GREY, np.uint8) if decoded is None else decoded
                draws = generator.random(plan.draws, dtype=np.float32)
                augmented = augment(pixels, plan.data, plan.input_size, generator)
                yield _Picture(sample.key, augmented, draws, decoded is not None)
        if missing:
            raise ValueError(f"{shard.url} holds fewer than the {shard.samples} samples its index tells; {MEND}")


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
    )
