"""Shards as decoded pictures, and their words at one batch shape.

Tokenizing and evaluation read shards the same way, so that they see the same batches: a batch never crosses a shard and
the last one is filled up, which makes ids bit-equal for any neighbours and number of workers.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, cast

import fsspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from spae.data.augmentation import load_picture
from spae.data.media import MediaError
from spae.data.records import ShardInfo
from spae.data.tar import MEND, Sample, samples_of
from spae.model import SPAE
from spae.pyramid import TokenPyramid

CROP = "short side resized (antialiased bicubic), centre crop"
"""How evaluation brings pictures to the input size (facts 8.17)."""


@dataclass(frozen=True)
class Undecodable:
    """A sample that could not be used: why, in few words that can be counted, and the details of this case."""

    key: str
    reason: str
    details: str


@dataclass(frozen=True)
class DecodedPictures:
    """Consecutive samples of a shard: n decoded ones, and those between them that could not be used.

    Attributes:
        keys: n keys.
        labels: n labels, None where a sample has none.
        pixels: uint8 (n, H, W, 3), of clips (n, T, H, W, 3).
        errors: the others.
    """

    keys: tuple[str, ...]
    labels: tuple[int | None, ...]
    pixels: NDArray[np.uint8]
    errors: tuple[Undecodable, ...]


def read_pictures(
    shard: ShardInfo, size: tuple[int, ...], most: int | None = None, frame_stride: int = 1
) -> Iterator[DecodedPictures]:
    """Decode a shard in tar order, `most` pictures at a time or all at once, as `load_picture` brings them to `size`.

    ValueError as in `read_whole`.
    """
    yield from _parts(read_whole(shard), size, most or max(shard.samples, 1), frame_stride=frame_stride)


def read_whole(shard: ShardInfo) -> Iterator[Sample]:
    """All samples of a shard, in tar order.

    ValueError where the tar is damaged, or at its end turns out not to be the one of the index.
    """
    found = 0
    with fsspec.open(shard.url, "rb") as file:
        stream = _Hashing(file)
        for sample in samples_of(cast(IO[bytes], stream), shard.url):
            found += 1
            yield sample
        stream.finish()
    if stream.digest.hexdigest() != shard.sha256 or found != shard.samples:
        raise ValueError(
            f"{shard.url} holds {found} samples with sha256 {stream.digest.hexdigest()}, and its index says "
            f"{shard.samples} with {shard.sha256}; {MEND}"
        )


Cut = Callable[[str, bytes], list[NDArray[np.uint8]]]
"""What is made of a sample, by its key and its picture or video: arrays of the size, as many of each sample."""


def decode_pictures(
    samples: Iterable[Sample | Undecodable], size: tuple[int, ...], cut: Cut | None = None
) -> DecodedPictures:
    """Decode consecutive samples of a shard as they come, cropped to `size`, or what `cut` makes of each.

    Of videos it is else the clip in the middle.
    """
    parts = list(_parts(samples, size, sys.maxsize, cut))
    return parts[0] if parts else _pictures([], [], [], size)


def _parts(
    samples: Iterable[Sample | Undecodable],
    size: tuple[int, ...],
    most: int,
    cut: Cut | None = None,
    frame_stride: int = 1,
) -> Iterator[DecodedPictures]:
    good: list[Sample] = []
    arrays: list[NDArray[np.uint8]] = []
    errors: list[Undecodable] = []
    for sample in samples:
        if isinstance(sample, Undecodable):
            errors.append(sample)
            continue
        try:
            made = [load_picture(sample.media, size, frame_stride)] if cut is None else cut(sample.key, sample.media)
            arrays += made
            good += [sample] * len(made)
        except MediaError as error:
            errors.append(Undecodable(sample.key, error.reason, str(error)))
        if len(good) == most:
            yield _pictures(good, arrays, errors, size)
            good, arrays, errors = [], [], []
    if good or errors:
        yield _pictures(good, arrays, errors, size)


def _pictures(
    good: list[Sample], arrays: list[NDArray[np.uint8]], errors: list[Undecodable], size: tuple[int, ...]
) -> DecodedPictures:
    return DecodedPictures(
        keys=tuple(sample.key for sample in good),
        labels=tuple(sample.label for sample in good),
        pixels=np.stack(arrays) if arrays else np.empty((0, *size, 3), np.uint8),
        errors=tuple(errors),
    )


class _Hashing:
    """A binary stream whose sha256 is taken as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.digest.update(data)
        return data

    def finish(self) -> None:
        """Read what a reader of tars leaves: the padding behind the last member."""
        while self.read(1 << 20):
            pass


def encode_in_batches(model: SPAE, pixels: NDArray[np.uint8], batch: int, layers: int | None = None) -> TokenPyramid:
    """Words, of the first layers or all, of uint8 (n, H, W, 3) or (n, T, H, W, 3), n at least 1, on the CPU.

    Every pass of the model has exactly `batch` pictures. The latents' last bits depend on the size of a batch, so that
    the last one is filled up with black pictures, whose words are dropped.
    """
    parts = []
    for start in range(0, len(pixels), batch):
        part = channels_first(pixels[start : start + batch])
        padded = functional.pad(part, (0, 0) * (part.ndim - 1) + (0, batch - len(part)))
        parts.append(model.encode(padded, layers)[: len(part)].to("cpu"))
    return join_pyramids(parts)


def decode_in_batches(model: SPAE, pyramid: TokenPyramid, batch: int) -> Iterator[NDArray[np.uint8]]:
    """Pictures uint8 (b, H, W, 3), or clips (b, T, H, W, 3), b at most `batch`, that words rebuild.

    Every pass of the model has exactly `batch`; as in `encode_in_batches` the last one is filled up, with pictures of
    the first word that are dropped.
    """
    for start in range(0, len(pyramid), batch):
        pixels = decode_filled(model, pyramid[start : start + batch], batch)
        yield (pixels * 255).round().byte().movedim(1, -1).cpu().numpy()


def decode_filled(model: SPAE, pyramid: TokenPyramid, batch: int, layers: int | None = None) -> Tensor:
    """As `model.decode`, of at most `batch` pictures, in a pass of exactly so many."""
    filled = [torch.cat([ids, ids.new_zeros(batch - len(pyramid), *ids.shape[1:])]) for ids in pyramid.layers]
    return model.decode(TokenPyramid(tuple(filled)), layers)[: len(pyramid)]


def join_pyramids(parts: Sequence[TokenPyramid]) -> TokenPyramid:
    """The pyramids of all parts, in order, as one batch."""
    return TokenPyramid(tuple(torch.cat(layers) for layers in zip(*(part.layers for part in parts), strict=True)))


def channels_first(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, *S, 3) as a tensor (n, 3, *S)."""
    return torch.tensor(pixels).movedim(-1, 1).contiguous()  # a copy: blocks of Ray are read-only


TokenSource = Callable[[ShardInfo, Sequence[str]], TokenPyramid]
"""The stored words of some samples of a shard, by their keys."""


@dataclass(frozen=True)
class EncodedBatch:
    """Pictures of one shard and their words.

    Attributes:
        keys: B keys.
        pixels: uint8 (B, 3, H, W) or (B, 3, T, H, W); B is 0 where none of the samples could be decoded.
        labels: B labels, None where a sample has none.
        pyramid: their words; None where B is 0.
        errors: samples among them that could not be decoded.
    """

    keys: tuple[str, ...]
    pixels: Tensor
    labels: tuple[int | None, ...]
    pyramid: TokenPyramid | None
    errors: int

    def __len__(self) -> int:
        """Samples, those that could not be decoded too."""
        return len(self.labels) + self.errors


def encoded_batches(
    model: SPAE,
    shards: Iterable[ShardInfo],
    batch: int,
    tokens: TokenSource | None = None,
    layers: int | None = None,
    frame_stride: int = 1,
) -> Iterator[EncodedBatch]:
    """Pictures of shards, or the clips in the middle of videos, with their words.

    The words, of the first layers or all, are encoded at one batch shape, or those of `tokens`.
    """
    for shard in shards:
        for pictures in read_pictures(shard, model.config.input_size, batch, frame_stride):
            pyramid = None
            if pictures.keys and tokens is not None:
                pyramid = tokens(shard, pictures.keys)
            elif pictures.keys:
                pyramid = encode_in_batches(model, pictures.pixels, batch, layers)
            pixels = channels_first(pictures.pixels)
            yield EncodedBatch(pictures.keys, pixels, pictures.labels, pyramid, len(pictures.errors))


def first_words(pyramid: TokenPyramid) -> Tensor:
    """The first word of each picture, int64 (B,)."""
    return pyramid.flatten(1)[:, 0]
