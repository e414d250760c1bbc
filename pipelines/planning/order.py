"""The inputs of a split in the order of its shards, sorted on disk: memory does not grow with their number.

The order is global: inputs are sorted by a hash of (seed, key), so that it depends on no runner, no worker count and
not on the order in which the source lists them; the first N of it are a fair sample.
"""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.planning.entry_rows import ENTRY_SCHEMA, entries_to_rows
from spae.data.records import KEY_PATTERN, MAX_KEY_LENGTH, check_key
from spae.data.scratch import ScratchFolder
from spae.data.sources import Entry
from spae.progress import tracked

BATCH_ROWS = 1 << 14
"""Inputs that are held as Python objects or as one Arrow batch."""
SORT_MEMORY, SORT_THREADS = "2GB", 2
"""What DuckDB takes before it sorts on disk. Each thread pins a part: in 1 GB two sorted rows of 4 KB, four did not."""


class NoRoomError(OSError):
    """Disk or memory end while a plan is made."""


def ordered_entries(
    entries: Iterable[Entry], seed: int, limit: int | None, *, memory: str = SORT_MEMORY
) -> Iterator[pa.RecordBatch]:
    """All inputs (the first `limit` of the order, if given) with unique keys, as rows of ENTRY_SCHEMA.

    Inputs that share a key stand together, by path and place in it: the first keeps the key, the others add a hash of
    where they come from. Needs free disk in the temporary folder (TMPDIR): about 150 bytes an input. NoRoomError where
    the disk does not suffice, ValueError for an unsafe key.
    """
    with ScratchFolder("plan") as folder:
        listed = os.path.join(folder, "listed.parquet")
        _write_listing(entries, listed)
        try:
            yield from _with_unique_keys(_sorted(listed, seed, limit, memory))
        except (duckdb.Error, OSError) as error:  # the latter from pyarrow, between two batches
            raise NoRoomError(
                f"cannot sort the inputs in {folder}, where disk or memory end (TMPDIR names another disk): {error}"
            ) from error


def _write_listing(entries: Iterable[Entry], path: str) -> None:
    remaining = iter(entries)
    batches = iter(lambda: list(itertools.islice(remaining, BATCH_ROWS)), [])
    with pq.ParquetWriter(path, ENTRY_SCHEMA, compression="lz4", use_dictionary=False) as writer:
        for batch in tracked(batches, None, "input", len):
            rows = entries_to_rows(batch)
            safe = pc.match_substring_regex(rows["key"], rf"\A(?:{KEY_PATTERN})\z")
            if not pc.all(safe).as_py():
                check_key(rows["key"][pc.index(safe, False).as_py()].as_py())
            writer.write_table(rows)


def _sorted(listed: str, seed: int, limit: int | None, memory: str) -> Iterator[pa.RecordBatch]:
    """The listed rows by position, key, path and offset; the other columns decide only between copies of one input."""
    first = ("key", "path", "offset")
    columns = [*first, *(name for name in ENTRY_SCHEMA.names if name not in first)]
    # 64 bits of the hash: where two keys agree in them, the key decides
    order = ", ".join([f"substr(sha256('{seed}|' || key), 1, 16)", *(f'"{name}" NULLS FIRST' for name in columns)])
    query = f"SELECT * FROM read_parquet($1) ORDER BY {order}" + (f" LIMIT {limit}" if limit else "")
    temporary = f"{listed}.sorting"
    with duckdb.connect(
        config={"memory_limit": memory, "threads": SORT_THREADS, "temp_directory": temporary}
    ) as connection:
        yield from connection.sql(query, params=[listed]).to_arrow_reader(BATCH_ROWS)


def _with_unique_keys(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    previous_key, previous_place, copies = "", "", 0
    for batch in batches:
        keys = batch["key"]
        repeated = np.empty(len(keys), dtype=bool)
        repeated[0] = keys[0].as_py() == previous_key
        repeated[1:] = pc.equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
        previous_key = keys[-1].as_py()
        new_keys = []
        for row in np.flatnonzero(repeated).tolist():
            if row:
                previous_place, copies = _place(batch, row - 1), copies if repeated[row - 1] else 0
            place = _place(batch, row)
            copies = copies + 1 if place == previous_place else 0
            digest = hashlib.sha256(f"{place}|{copies}".encode() if copies else place.encode()).hexdigest()[:12]
            new_keys.append(f"{keys[row].as_py()[: MAX_KEY_LENGTH - 13]}-{digest}")
        previous_place, copies = _place(batch, len(keys) - 1), copies if repeated[-1] else 0
        if new_keys:
            keys = pc.replace_with_mask(keys, pa.array(repeated), pa.array(new_keys))
        yield pa.RecordBatch.from_arrays(
            [keys if name == "key" else batch[name] for name in ENTRY_SCHEMA.names], schema=ENTRY_SCHEMA
        )


def _place(batch: pa.RecordBatch, row: int) -> str:
    """Where an input comes from: path, and offset inside of it where it has one."""
    path, offset = batch["path"][row].as_py(), batch["offset"][row].as_py()
    return path if offset is None else f"{path}|{offset}"
