"""Shards to batches, in an order that a run can leave and take up again exactly.

The order. Samples are numbered n = 0, 1, 2, ... through all epochs; sample n comes from virtual stream n mod V.
Each epoch permutes the shards by (seed, epoch), lays them end to end, and cuts that row into V ranges whose lengths
differ by at most one, one a stream; a stream reads its range in tar order. So a batch of any size is the next run
of numbers, rank r of R takes the numbers with n mod R = r, and a loader worker those of its streams: nobody ever
waits for an uneven shard, a batch runs across the end of an epoch, and every rank has the same share of every
batch. V is fixed for a run and divisible by ranks x loader workers; the order of samples depends on neither.

What grows: memory with the number of shards (their counts) and one open shard a stream, not with the samples. At
most V - 1 shards an epoch are opened by two streams.

Targets and augmentation are drawn from (seed, epoch, key), never from a rank or a worker.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import fsspec
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from webdataset.tariterators import group_by_keys, tar_file_iterator

from spae.config import DataConfig
from spae.media import MediaError, decode_image, fit_image
from spae.records import MEDIA_SUFFIXES, SplitIndex

logger = logging.getLogger(__name__)
Image8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One sample of a shard: its key, the encoded picture or clip, and its label where it has one."""

    key: str
    media: bytes
    label: int | None


def read_samples(url: str, start: int = 0, stop: int | None = None) -> Iterator[Sample]:
    """Samples start..stop of a tar in WebDataset form, in tar order, over any fsspec URL."""
    with fsspec.open(url, "rb") as stream:
        yield from samples_of(stream, url, start, stop)


def samples_of(stream: IO[bytes], url: str, start: int = 0, stop: int | None = None) -> Iterator[Sample]:
    """The same of an open tar, which is read once from front to back; `url` names it in errors."""
    members = ({**member, "__url__": url} for member in tar_file_iterator(stream))
    for number, group in enumerate(group_by_keys(members)):
        if stop is not None and number >= stop:
            return
        if number >= start:
            yield _sample(group, url)


def _sample(group: dict[str, Any], url: str) -> Sample:
    media = [group[suffix] for suffix in MEDIA_SUFFIXES if suffix in group]
    if len(media) != 1:
        raise ValueError(f"sample {group['__key__']} of {url} has {len(media)} of {MEDIA_SUFFIXES}; it needs one")
    label = group.get("cls")
    return Sample(group["__key__"], media[0], None if label is None else int(label))


@dataclass(frozen=True)
class DataPosition:
    """How far a run has read: the epoch, and how many samples of it each virtual stream has given.

    The same for every number of ranks and loader workers.
    """

    epoch: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Segment:
    """Consecutive samples of one shard: index of the shard, first sample, end."""

    shard: int
    start: int
    stop: int


class StreamOrder:
    """Which sample is number n of a run; see the head of this file."""

    def __init__(self, shard_sizes: Sequence[int], streams: int, seed: int) -> None:
        self.shard_sizes, self.streams, self.seed = tuple(shard_sizes), streams, seed
        self.samples = sum(shard_sizes)
        if self.samples == 0:
            raise ValueError("the split holds no samples; verify it with `python -m pipelines.verify URL`")

    def position(self, seen: int) -> DataPosition:
        """Where a run is after `seen` samples."""
        epoch = seen // self.samples
        first = epoch * self.samples
        counts = (self._before(seen, stream) - self._before(first, stream) for stream in range(self.streams))
        return DataPosition(epoch, tuple(counts))

    def seen(self, position: DataPosition) -> int:
        """Undo `position`; ValueError where it belongs to another number of streams."""
        seen = position.epoch * self.samples + sum(position.counts)
        if self.position(seen) != position:
            raise ValueError(
                f"the position {position} was not reached on {self.samples} samples in {self.streams} streams; "
                "continue a run with the split and the data.streams it began with"
            )
        return seen

    def segments(self, stream: int, epoch: int) -> list[Segment]:
        """What a stream reads in an epoch, in order."""
        short, longer = divmod(self.samples, self.streams)
        rank = (
            stream - epoch * self.samples
        ) % self.streams  # the stream that gives the epoch's first sample has rank 0
        begin = rank * short + min(rank, longer)
        end = begin + short + (rank < longer)
        found, offset = [], 0
        for shard in self._shards(epoch):
            size = self.shard_sizes[shard]
            start, stop = max(begin - offset, 0), min(end - offset, size)
            if start < stop:
                found.append(Segment(shard, start, stop))
            offset += size
        return found

    def stream(self, stream: int, seen: int) -> Iterator[tuple[int, Segment]]:
        """Endless (epoch, segment) pairs of a stream from the point where a run has seen `seen` samples."""
        position = self.position(seen)
        epoch, skip = position.epoch, position.counts[stream]
        while True:
            for segment in self.segments(stream, epoch):
                size = segment.stop - segment.start
                if skip < size:
                    yield epoch, Segment(segment.shard, segment.start + skip, segment.stop)
                skip = max(skip - size, 0)
            epoch += 1

    def _before(self, seen: int, stream: int) -> int:
        return (seen - stream + self.streams - 1) // self.streams  # numbers below `seen` that belong to the stream

    def _shards(self, epoch: int) -> list[int]:
        generator = random_generator(self.seed, epoch, "shards")
        return generator.permutation(len(self.shard_sizes)).tolist()


@dataclass(frozen=True)
class Batch:
    """Samples of one step.

    Attributes:
        pixels: uint8 (B, 3, *S).
        draws: float32 (B, n) uniform in [0, 1), from which the semantic targets are picked.
        keys: key of each sample.
        numbers: number n of each sample in the run.
    """

    pixels: Tensor
    draws: Tensor
    keys: tuple[str, ...]
    numbers: tuple[int, ...]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        pixels, draws = (x.to(device, non_blocking=True) for x in (self.pixels, self.draws))
        return Batch(pixels, draws, self.keys, self.numbers)


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
        """The order of samples, the same on every rank."""
        return StreamOrder([shard.samples for shard in self.index.shards], self.data.streams, self.seed)


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
                pixels=torch.from_numpy(np.stack([p.pixels for p in pictures])).permute(0, 3, 1, 2).contiguous(),
                draws=torch.from_numpy(np.stack([p.draws for p in pictures])),
                keys=tuple(p.key for p in pictures),
                numbers=tuple(numbers),
            )


@dataclass(frozen=True)
class _Picture:
    key: str
    pixels: Image8
    draws: NDArray[np.float32]


def _pictures(plan: BatchPlan, stream: int, seen: int) -> Iterator[_Picture]:
    """Endless augmented pictures of a stream; the predecessor stands in for an undecodable one, which the log names."""
    last: Image8 = np.full((*plan.input_size[-2:], 3), 128, np.uint8)
    for epoch, segment in plan.order.stream(stream, seen):
        shard = plan.index.shards[segment.shard]
        missing = segment.stop - segment.start
        for sample in read_samples(shard.url, segment.start, segment.stop):
            missing -= 1
            try:
                last = decode_image(sample.media)
            except MediaError as error:
                logger.warning("sample %s cannot be decoded (%s); the one before it stands in", sample.key, error)
            generator = random_generator(plan.seed, epoch, sample.key)
            draws = generator.random(plan.draws, dtype=np.float32)
            yield _Picture(sample.key, augment(last, plan.data, plan.input_size, generator), draws)
        if missing:
            raise ValueError(
                f"{shard.url} holds fewer than the {shard.samples} samples its index tells; "
                "mend it with `python -m pipelines.verify URL --repair`"
            )


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
    )


def random_generator(seed: int, epoch: int, key: str) -> np.random.Generator:
    """Random numbers that depend on these three alone."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{key}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def augment(picture: Image8, config: DataConfig, size: tuple[int, ...], generator: np.random.Generator) -> Image8:
    """Random resized crop, flip and shift of a picture (H, W, 3) to the input size (facts 8.17)."""
    height, width = size[-2:]
    if config.crop_scale != (1.0, 1.0):
        box = _random_box(picture.shape[:2], config.crop_scale, generator)
        picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC, box=box))
    picture = fit_image(picture, (height, width))
    if config.flip and generator.random() < 0.5:
        picture = picture[:, ::-1]
    if config.shift:
        rows, columns = generator.integers(-config.shift, config.shift + 1, 2)
        padded = np.pad(picture, [(config.shift, config.shift)] * 2 + [(0, 0)], mode="edge")
        top, left = config.shift + rows, config.shift + columns
        picture = padded[top : top + height, left : left + width]
    return np.ascontiguousarray(picture)


def _random_box(
    sides: tuple[int, ...], scale: tuple[float, float], generator: np.random.Generator
) -> tuple[float, float, float, float]:
    """A random box of the given share of the area, aspect 3:4 to 4:3, as (left, top, right, bottom)."""
    height, width = sides
    area = height * width * generator.uniform(*scale)
    aspect = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
    box_width, box_height = min(np.sqrt(area * aspect), width), min(np.sqrt(area / aspect), height)
    left, top = generator.uniform(0, width - box_width), generator.uniform(0, height - box_height)
    return float(left), float(top), float(left + box_width), float(top + box_height)


def load_pictures(media: Sequence[bytes], size: tuple[int, ...]) -> Tensor:
    """Encoded pictures as uint8 (B, 3, H, W) by short side and centre crop, as in evaluation (facts 8.17)."""
    sides = (size[-2], size[-1])
    arrays = [fit_image(decode_image(one), sides) for one in media]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
