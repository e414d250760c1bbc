"""The inputs of planned shards on disk: `plan/part-00000.parquet` ... in a split's folder, one row group a shard."""

import io
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.planning.entry_table import ENTRY_SCHEMA, with_later_columns
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
                table = part.read_row_group(group, use_threads=False)  # see read_parquet in spae/data/records.py
                if (table := with_later_columns(table)).schema.equals(ENTRY_SCHEMA):
                    return table
            raise ValueError(f"{url} does not hold shard {number} of a plan; rerun the sharding")

    def write(self, shards: Iterable[pa.Table]) -> None:
        """Write all parts into this folder, which is a local one."""
        numbered = enumerate(shards)
        for number, first in numbered:
            with pq.ParquetWriter(
                os.path.join(self.url, part_name(number)), ENTRY_SCHEMA, compression="zstd", use_dictionary=False
            ) as writer:
                rest = (table for _, table in itertools.islice(numbered, SHARDS_PER_PART - 1))
                for table in itertools.chain([first], rest):
                    writer.write_table(table, row_group_size=table.num_rows)

    def publish(self, url: str) -> None:
        """Put the parts of this local folder at `url`, and delete what other parts stand there."""
        names = sorted(os.listdir(self.url))
        for name in names:
            publish(join(url, name), Path(self.url, name))
        for name in list_files(url):
            if name not in names:
                delete(join(url, name))


def part_name(number: int) -> str:
    """File that holds the shard of this number."""
    return f"part-{number // SHARDS_PER_PART:05d}.parquet"


def cut(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The rows of the batches again as tables of so many rows; the last one may hold fewer."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        if count < rows:
            continue
        table = pa.Table.from_batches(held)
        whole = count - count % rows
        for begin in range(0, whole, rows):
            yield table.slice(begin, rows)
        held, count = table.slice(whole).to_batches(), count - whole
    if count:
        yield pa.Table.from_batches(held)
