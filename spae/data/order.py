"""The order of training data, which a run can leave and take up again exactly.

Samples are numbered n = 0, 1, 2, ... through all epochs; sample n comes from virtual stream n mod V.
Each epoch permutes the shards by (seed, epoch), lays them end to end, and cuts that row into V ranges whose lengths
differ by at most one, one a stream; a stream reads its range in tar order. So a batch of any size is the next run
of numbers, and its rows are dealt to ranks and their loader workers, as many of both as there are: nobody ever waits
for an uneven shard, a batch runs across the end of an epoch, and the shares of the ranks differ by one at most. V is
fixed for a run. Where the batch divides V, or the ranks divide both, one rank reads a stream; else several may, each
decoding its own samples alone.

What grows: memory with the number of shards (their counts) and one open shard a stream, not with the samples. At
most V - 1 shards an epoch are opened by two streams.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


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

    def bytes_read(self, shard_bytes: Sequence[int]) -> float:
        """Bytes of shards that an epoch reads where each stream reads its shards from their first byte on.

        About the first epoch: others differ a little, as shards lie otherwise.
        """
        segments = (segment for stream in range(self.streams) for segment in self.segments(stream, 0))
        return sum(shard_bytes[one.shard] * one.stop / self.shard_sizes[one.shard] for one in segments)

    def _before(self, seen: int, stream: int) -> int:
        return (seen - stream + self.streams - 1) // self.streams  # numbers below `seen` that belong to the stream

    def _shards(self, epoch: int) -> list[int]:
        generator = random_generator(self.seed, epoch, "shards")
        return generator.permutation(len(self.shard_sizes)).tolist()


def random_generator(seed: int, epoch: int, key: str) -> np.random.Generator:
    """Random numbers that depend on these three alone."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{key}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
