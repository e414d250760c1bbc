"""Inputs of a store or of the web are fetched several at once, in the order in which they will be read."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from spae.data.records import ClassName
from spae.data.sources.base import Entry, Source


class ReadAhead:
    """A source that reads `count` inputs at once, of those that are wanted next; so many are held in memory.

    What is not among `entries` is read when it is asked for. Errors are raised where the input is read.
    """

    def __init__(self, source: Source, entries: Sequence[Entry], count: int) -> None:
        self.source, self.count = source, count
        self.wanted = [entry for entry in entries if not entry.problem]
        self.positions = {entry: position for position, entry in enumerate(self.wanted)}
        self.pool = ThreadPoolExecutor(count)
        self.reads: dict[int, Future[bytes]] = {}
        self.begun = 0

    def classes(self) -> tuple[ClassName, ...]:
        """Those of the source."""
        return self.source.classes()

    def entries(self) -> Iterator[Entry]:
        """Those of the source."""
        return self.source.entries()

    def read(self, entry: Entry, limit: int) -> bytes:
        """The bytes of an input, cut after `limit`, the same for all inputs."""
        position = self.positions.get(entry, -1)
        while position >= 0 and self.begun < min(position + self.count, len(self.wanted)):
            self.reads[self.begun] = self.pool.submit(self.source.read, self.wanted[self.begun], limit)
            self.begun += 1
        for passed in [number for number in self.reads if number < position]:
            self.reads.pop(passed).cancel()
        read = self.reads.pop(position, None)
        return self.source.read(entry, limit) if read is None else read.result()

    def close(self) -> None:
        """Begin no further reads."""
        self.pool.shutdown(wait=False, cancel_futures=True)
