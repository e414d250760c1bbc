"""Taking the rows of some keys out of token tables."""

import dataclasses
import hashlib
from collections.abc import Iterable

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spae.data.token_table import TokenTableFooter, publish_table

_HASHES = 1 << 256


def remove_rows(url: str, keys: frozenset[str]) -> int:
    """Publish a table anew without the rows of some keys, unless it has none; how many rows these were.

    The footer counts what is removed, so that the table is that of its shard as before.
    """
    with fsspec.open(url, "rb") as file:
        parquet = pq.ParquetFile(file)
        footer = TokenTableFooter.from_metadata(parquet.metadata.metadata or {})
        found = pc.is_in(parquet.read(columns=["key"])["key"], pa.array(keys, pa.string()))
        if not (removed := pc.sum(found).as_py()):
            return 0
        table = parquet.read()
    gone = table["key"].filter(found).unique().to_pylist()
    footer = dataclasses.replace(
        footer,
        removed=footer.removed + len(gone),
        removed_sha256=added_sha256(footer.removed_sha256, gone),
    )
    publish_table(url, table.filter(pc.invert(found)), footer)
    return int(removed)


def added_sha256(before: str, keys: Iterable[str]) -> str:
    """The hash of removed keys with more of them; the order and the parts in which they were removed do not matter."""
    total = sum(int.from_bytes(hashlib.sha256(key.encode()).digest()) for key in keys)
    return f"{(int(before or '0', 16) + total) % _HASHES:064x}"
