"""Shards to batches.

Which sample comes when is the business of `spae/data/order.py`: a rank takes the numbers n with n mod ranks = rank, a
loader worker those of its streams, so that every rank has the same share of every batch and nobody waits for an uneven
shard. One shard a stream is open at a time; an undecodable picture is named in the log.

Targets and augmentation are drawn from (seed, epoch, key), never from a rank or a worker.
"""

import copy
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
from spae.data.batch import Batch
from spae.data.media import MediaError, decode_image, fit_image
from spae.data.order import StreamOrder, random_generator
from spae.data.records import MEDIA_SUFFIXES, SplitIndex
from spae.data.video import decode_video

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
                pixels=torch.from_numpy(np.stack([p.pixels for p in pictures])).movedim(-1, 1).contiguous(),
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
    """Endless augmented pictures or clips of a stream; the predecessor stands in for an undecodable one, as logged."""
    size = plan.input_size
    last: Image8 = np.full((*size, 3), 128, np.uint8)
    for epoch, segment in plan.order.stream(stream, seen):
        shard = plan.index.shards[segment.shard]
        missing = segment.stop - segment.start
        for sample in read_samples(shard.url, segment.start, segment.stop):
            missing -= 1
            generator = random_generator(plan.seed, epoch, sample.key)
            try:
                if len(size) == 2:
                    last = decode_image(sample.media)
                else:
                    last = decode_video(sample.media, size[0], generator.random())
            except MediaError as error:
                logger.warning("sample %s cannot be decoded (%s); the one before it stands in", sample.key, error)
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


def augment(picture: Image8, config: DataConfig, size: tuple[int, ...], generator: np.random.Generator) -> Image8:
    """Random resized crop, flip and shift to the input size (facts 8.17), of a picture (H, W, 3).

    All pictures of a clip (T, H, W, 3) have the same crop, flip and shift.
    """
    if picture.ndim == 4:
        return np.stack([augment(frame, config, size, copy.deepcopy(generator)) for frame in picture])
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
    """Encoded pictures as uint8 (B, 3, H, W) by short side and centre crop, as in evaluation (facts 8.17).

    Of clips the frames in the middle, (B, 3, T, H, W).
    """
    sides = (size[-2], size[-1])
    if len(size) == 2:
        arrays = [fit_image(decode_image(one), sides) for one in media]
    else:
        arrays = [np.stack([fit_image(frame, sides) for frame in decode_video(one, size[0], 0.5)]) for one in media]
    return torch.from_numpy(np.stack(arrays)).movedim(-1, 1).contiguous()
