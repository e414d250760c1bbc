"""Token tables on disk: one Parquet file a shard, its footer, and what lies beside the tables.

The footer says from which shard, by which model and under which conditions the words came. What is finished is decided
by footers alone, never by what a worker reports.
"""

import dataclasses
import importlib.metadata
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from spae.config import Grid
from spae.data.publishing import join, list_files, publish, publishing
from spae.data.records import ShardInfo, token_schema
from spae.model import SPAE
from spae.pyramid import TokenPyramid

SCHEMA_VERSION = 1
VOCABULARY_FILE, MANIFEST_FILE = "vocabulary.parquet", "manifest.json"
ROW_GROUP_ROWS = 8_192

_PREFIX = "spae."
_SIMULTANEOUS_READS = 32
_SHARED = ("schema_version", "model_fingerprint", "words_fingerprint", "grids")


@dataclass(frozen=True, kw_only=True)
class TableFooter:
    """The spae.* keys of a token table's footer."""

    schema_version: int = SCHEMA_VERSION
    model_fingerprint: str
    words_fingerprint: str
    grids: tuple[Grid, ...]
    source_shard: str
    """Name of the tar without folder and suffix."""
    source_sha256: str
    samples: int
    """Samples of the tar: rows of the table + errors."""
    errors: int
    device: str
    dtype: str
    batch: int
    """Pictures of every pass of the model, the last one filled up."""
    code_version: str

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return self.samples - self.errors

    def to_metadata(self) -> dict[str, str]:
        """Keys and values as they stand in the footer."""
        values = dataclasses.asdict(self)
        return {
            f"{_PREFIX}{name}": value if isinstance(value, str) else json.dumps(value) for name, value in values.items()
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes]) -> "TableFooter":
        """Undo `to_metadata`; ValueError where a key is missing or makes no sense."""
        values: dict[str, Any] = {}
        for item in dataclasses.fields(cls):
            key = f"{_PREFIX}{item.name}"
            text = metadata.get(key.encode())
            if text is None:
                raise ValueError(f"the footer has no {key}")
            values[item.name] = text.decode() if item.type is str else json.loads(text)
        return cls(**{**values, "grids": tuple(tuple(grid) for grid in values["grids"])})


@dataclass(frozen=True)
class FoundTable:
    """A file that looks like a table: its footer, or why it has none."""

    footer: TableFooter | None
    bytes: int
    problem: str = ""
    foreign: bool = False
    """A sound Parquet file that is no token table: somebody else's."""


def code_version() -> str:
    """Version of this code, for the footer."""
    return importlib.metadata.version("spae")


def table_url(folder: str, shard: str) -> str:
    """Where the table of a shard stands."""
    return join(folder, f"{shard}.parquet")


def write_table(
    url: str, keys: Sequence[str], labels: Sequence[int | None], pyramid: TokenPyramid | None, footer: TableFooter
) -> None:
    """Publish the words of a shard, whole or not at all; a pyramid of None stands for no rows.

    ValueError unless rows + errors = samples.
    """
    if len(keys) != footer.rows:
        raise ValueError(f"{url}: {len(keys)} rows + {footer.errors} errors are not {footer.samples} samples")
    schema = token_schema([math.prod(grid) for grid in footer.grids])
    columns = [pa.array(keys, pa.string()), pa.array(labels, pa.int32()), pa.nulls(len(keys), pa.int32())]
    for number, field in enumerate(list(schema)[len(columns) :]):
        ids = torch.empty(0) if pyramid is None else pyramid.layers[number]
        values = pa.array(ids.flatten().to(torch.int32).numpy())
        columns.append(pa.FixedSizeListArray.from_arrays(values, type=field.type))
    table = pa.Table.from_arrays(columns, schema=schema.with_metadata(footer.to_metadata()))
    with publishing(url) as file:
        pq.write_table(table, file, compression="zstd", use_dictionary=True, row_group_size=ROW_GROUP_ROWS)


def find_tables(folder: str) -> dict[str, FoundTable]:
    """Every table in a folder by shard name: one listing, footers read in parallel."""
    files = list_files(folder)
    names = [name for name in files if name.endswith(".parquet") and name != VOCABULARY_FILE]

    def find(name: str) -> FoundTable:
        return _find(join(folder, name), files[name])

    with ThreadPoolExecutor(_SIMULTANEOUS_READS) as pool:
        return {name.removesuffix(".parquet"): table for name, table in zip(names, pool.map(find, names), strict=True)}


def _find(url: str, size: int) -> FoundTable:
    try:
        with fsspec.open(url, "rb") as file:
            metadata = pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        return FoundTable(None, size, f"{url} is no whole Parquet file: {error}")
    try:
        footer = TableFooter.from_metadata(metadata.metadata or {})
    except (ValueError, TypeError) as error:
        return FoundTable(None, size, f"{url} is no token table: {error}", foreign=True)
    if metadata.num_rows != footer.rows:
        return FoundTable(None, size, f"{url} holds {metadata.num_rows} rows, not {footer.samples} - {footer.errors}")
    return FoundTable(footer, size)


@dataclass(frozen=True)
class ShardTokens:
    """The words of one shard, row by row."""

    keys: tuple[str, ...]
    labels: tuple[int | None, ...]
    pyramid: TokenPyramid
    footer: TableFooter


def read_tokens(url: str, layers: int | None = None) -> ShardTokens:
    """Read a table, of its words the first layers or all; only their columns are read."""
    with fsspec.open(url, "rb") as file:
        parquet = pq.ParquetFile(file)
        footer = TableFooter.from_metadata(parquet.metadata.metadata or {})
        grids = footer.grids[:layers]
        names = [f"layer_{number}" for number in range(1, len(grids) + 1)]
        table = parquet.read(columns=["key", "label", *names])
    tokens = []
    for name, grid in zip(names, grids, strict=True):
        flat = table[name].combine_chunks().flatten().to_numpy()
        tokens.append(torch.from_numpy(flat.astype("int64")).reshape(-1, *grid))
    keys, labels = table["key"].to_pylist(), table["label"].to_pylist()
    return ShardTokens(tuple(keys), tuple(labels), TokenPyramid(tuple(tokens)), footer)


def open_tokens(folder: str, shard: ShardInfo, model_fingerprint: str) -> ShardTokens:
    """The words of a shard; ValueError where the table is missing, or comes from another model or another shard."""
    url = table_url(folder, shard.name)
    try:
        tokens = read_tokens(url)
    except FileNotFoundError as error:
        raise ValueError(f"{url} does not exist; run `python -m jobs.tokenize_shards` on all shards first") from error
    for name, expected in (("model_fingerprint", model_fingerprint), ("source_sha256", shard.sha256)):
        if getattr(tokens.footer, name) != expected:
            raise ValueError(f"{url} has {name} {getattr(tokens.footer, name)}, and here it is {expected}")
    return tokens


def publish_vocabulary(folder: str, model: SPAE) -> None:
    """Put vocabulary.parquet (id, llm_id, word) beside the tables."""
    publish(join(folder, VOCABULARY_FILE), model.vocabulary.words_parquet())


def publish_manifest(folder: str, tables: Mapping[str, FoundTable]) -> None:
    """Put manifest.json beside the tables: what they say of themselves, and their sums."""
    shared: dict[str, Any] = {}
    rows = []
    for name, table in sorted(tables.items()):
        if table.footer is None:
            continue
        values = dataclasses.asdict(table.footer)
        shared = {key: values.pop(key) for key in _SHARED}
        rows.append({"url": f"{name}.parquet", "bytes": table.bytes, "rows": table.footer.rows, **values})
    sums = {key: sum(row[key] for row in rows) for key in ("samples", "errors", "rows", "bytes")}
    manifest = {**shared, "vocabulary": VOCABULARY_FILE, **sums, "tables": rows}
    publish(join(folder, MANIFEST_FILE), json.dumps(manifest, indent=1).encode() + b"\n")
