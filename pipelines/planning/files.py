"""The inputs of planned shards on disk: `plan/part-00000.parquet` ... in a split's folder, one row group a shard."""

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.planning.entry_rows import ENTRY_SCHEMA, with_later_columns
from spae.data.publishing import delete, join, list_files, publish, read_bytes

PLAN_FOLDER = "plan"
SHARDS_PER_PART = 100
"""Of a thousand inputs each: 5 MB, read in one piece by the worker of each shard, whose own inputs may have 100 MB."""


@dataclass(frozen=True)
class PlanFiles:
    """The parts of a plan in one folder; a small value that travels to workers."""

    url: str

    def read(self, number: int) -> pa.Table:
        """The inputs of one shard; ValueError or OSError where the part is damaged or missing."""
        url = join(self.url, part_name(number))
        data = read_bytes(url)
        if data is None:
            raise ValueError(f"{url} does not exist; rerun the sharding")
        with pq.ParquetFile(io.BytesIO(data)) as part:
            group = number % SHARDS_PER_PART
            if group < part.num_row_groups:
                rows = part.read_row_group(group, use_threads=False)  # see read_parquet in spae/data/records.py
                if (rows := with_later_columns(rows)).schema.equals(ENTRY_SCHEMA):
                    return rows
            raise ValueError(f"{url} does not hold shard {number} of a plan; rerun the sharding")

    def publish(self, url: str) -> None:
        """Put the parts of this local folder at `url`, and delete what other parts stand there."""
        names = sorted(os.listdir(self.url))
        for name in names:
            publish(join(url, name), Path(self.url, name))
        for name in list_files(url):
            if name not in names:
                delete(join(url, name))


class PlanWriter(contextlib.AbstractContextManager["PlanWriter"]):
    """Writes the parts of a plan into a local folder, shard by shard; they are whole once the block has ended."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.shards = 0
        self._part: Any = None

    def add(self, rows: pa.Table) -> None:
        """Write the inputs of the next shard."""
        if self.shards % SHARDS_PER_PART == 0:
            self._close()
            path = os.path.join(self.folder, part_name(self.shards))
            self._part = pq.ParquetWriter(path, ENTRY_SCHEMA, compression="zstd", use_dictionary=False)
        self._part.write_table(rows, row_group_size=rows.num_rows)
        self.shards += 1

    def __exit__(self, *exception: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._part:
            self._part.close()


def part_name(number: int) -> str:
    """File that holds the shard of this number."""
    return f"part-{number // SHARDS_PER_PART:05d}.parquet"


def cut(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """The rows of the batches again, `size` at a time; the last ones may be fewer."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        if count < size:
            continue
        rows = pa.Table.from_batches(held)
        whole = count - count % size
        for begin in range(0, whole, size):
            yield rows.slice(begin, size)
        held, count = rows.slice(whole).to_batches(), count - whole
    if count:
        yield pa.Table.from_batches(held)


def join_short_last(shards: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows; the last ones of less than a quarter of `size`, or a single one, together with those before."""
    least = min(size, max(2, -(-size // 4)))
    held: pa.Table | None = None
    for rows in shards:
        if held is not None and rows.num_rows < least:  # the last: all others are whole
            rows = pa.concat_tables([held, rows])
        elif held is not None:
            yield held
        held = rows
    if held is not None:
        yield held
