"""What a source of raw samples is: it lists its inputs cheaply, and reads one of them later, in a worker.

A source is a small frozen value that travels to workers; file systems are opened on use. Whatever lies in a source is
listed: an input that cannot become a sample is listed with its problem, so that inputs = samples + errors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from spae.data.records import ClassName


@dataclass(frozen=True)
class Entry:
    """One input: its key (not yet unique), where its source finds it, its label if it has one."""

    key: str
    path: str
    label: int | None = None
    size: int | None = None
    """Bytes, where listing tells; of a row of a Parquet file what its rows have on average."""
    problem: str = ""
    """Why this input can be no sample, where listing tells already; empty for the others."""
    offset: int | None = None
    """Where the input begins inside of `path`: a byte of a tar, a row of a Parquet file; None where it is the whole."""
    text: str = ""
    """The input's own caption; empty where the name of its class is its text."""
    original: str = ""
    """What its source says else of it, as JSON; empty where nothing."""


class Source(Protocol):
    """What every source offers; `read` is called in workers, the others where the plan is made."""

    def classes(self) -> tuple[ClassName, ...]:
        """The labels and their names, by label."""

    def entries(self) -> Iterator[Entry]:
        """All inputs, in an order that depends on the source alone."""

    def read(self, entry: Entry, limit: int) -> bytes:
        """The bytes of an input, cut after `limit`; MediaError where it can never be read."""
