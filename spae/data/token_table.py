"""Token tables on disk: one Parquet file a shard, its footer, and what lies beside the tables.

The footer says from which shard, by which model and under which conditions the words came. What is finished is decided
by footers alone, never by what a worker reports. Works without torch: `TokenPyramid.from_arrays` takes what is read.
"""

import dataclasses
import itertools
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spae.config import Grid
from spae.data.publishing import join, list_files, publishing
from spae.data.records import CLASSES_FILE, ShardInfo
from spae.data.token_footer import DEPTH_COLUMN as DEPTH_COLUMN
from spae.data.token_footer import MORE_LAYERS
from spae.data.token_footer import SCHEMA_VERSION as SCHEMA_VERSION
from spae.data.token_footer import SHARED_KEYS as SHARED_KEYS
from spae.data.token_footer import TokenTableFooter as TokenTableFooter

VOCABULARY_FILE, MANIFEST_FILE = "vocabulary.parquet", "manifest.json"
ROW_GROUP_ROWS = 8_192
TEXT_COLUMN, LLM_IDS_COLUMN = "text", "llm_ids"
VIEW_COLUMN, CROP_COLUMN = "view", "crop"

_NOT_NULL = (TEXT_COLUMN, LLM_IDS_COLUMN, DEPTH_COLUMN, VIEW_COLUMN, CROP_COLUMN)
_OWN_COLUMN = re.compile(r"key|label|clip|layer_\d+|text|llm_ids|depth|view|crop")

_SIMULTANEOUS_READS = 32


@dataclass(frozen=True)
class FoundTokenTable:
    """A file that looks like a table: its footer, or why it has none."""

    footer: TokenTableFooter | None
    bytes: int
    problem: str = ""
    foreign: bool = False
    """A sound Parquet file that is no token table: somebody else's."""


def token_table_url(folder: str, shard: str) -> str:
    """Where the table of a shard stands."""
    return join(folder, f"{shard}.parquet")


@dataclass(frozen=True)
class TokenRows:
    """The words of some samples of one shard.

    Attributes:
        keys: n keys.
        labels: n labels, None where a sample has none.
        layers: word ids of each layer, int32 (n, *grid).
        columns: optional columns by name, n values each; of a table that was read `depth` alone, if it has it.
    """

    keys: tuple[str, ...]
    labels: tuple[int | None, ...]
    layers: tuple[NDArray[np.int32], ...]
    columns: Mapping[str, pa.Array] = field(default_factory=dict)

    @property
    def depth(self) -> NDArray[np.int32] | None:
        """How many layers each row uses, int32 (n,); None where all use all that are stored."""
        return np.asarray(self.columns[DEPTH_COLUMN], np.int32) if DEPTH_COLUMN in self.columns else None

    def take(self, numbers: NDArray[np.integer]) -> "TokenRows":
        """Some of the rows, in an order."""
        return TokenRows(
            tuple(self.keys[number] for number in numbers),
            tuple(self.labels[number] for number in numbers),
            tuple(layer[numbers] for layer in self.layers),
            {name: values.take(pa.array(numbers)) for name, values in self.columns.items()},
        )


def token_schema(layer_sizes: Sequence[int], *, nullable: bool = False) -> pa.Schema:
    """Schema of a token table (one row a sample) for a pyramid with so many words a layer.

    `key`, `label` (null where the sample has none), `clip` (null for images), then `layer_1` to `layer_D`, each a fixed
    size list: reading the first layers reads their columns only. Where rows use some of them only, the others are null
    and the lists of no fixed size: Arrow (25) cannot read nulls between those of one from Parquet.
    """
    if not layer_sizes or any(size < 1 for size in layer_sizes):
        raise ValueError(f"layer_sizes={tuple(layer_sizes)} must hold at least one size, none below 1")
    fields = [pa.field("key", pa.string(), nullable=False), pa.field("label", pa.int32()), pa.field("clip", pa.int32())]
    for number, size in enumerate(layer_sizes, 1):
        words = pa.list_(pa.field("element", pa.int32(), nullable=False), -1 if nullable else size)
        fields.append(pa.field(f"layer_{number}", words, nullable=nullable))
    return pa.schema(fields)


def is_own_column(name: str) -> bool:
    """Whether token tables call a column of their own so."""
    return _OWN_COLUMN.fullmatch(name) is not None


def table_schema(footer: TokenTableFooter) -> pa.Schema:
    """The columns of a table before its optional ones."""
    sizes = [math.prod(grid) for grid in footer.stored_grids("")]
    return token_schema(sizes, nullable=DEPTH_COLUMN in footer.columns)


def write_token_table(url: str, rows: TokenRows, footer: TokenTableFooter) -> None:
    """Publish the words of a shard, whole or not at all.

    ValueError unless rows + errors = samples, and the optional columns are those of the footer.
    """
    count = len(rows.keys)
    if count != footer.rows:
        raise ValueError(f"{url}: {count} rows + {footer.errors} errors are not {footer.samples} samples")
    if tuple(rows.columns) != footer.columns:
        raise ValueError(f"{url}: the columns {', '.join(rows.columns)} are not {', '.join(footer.columns)}")
    schema = table_schema(footer)
    clips: list[int | None] = [*range(footer.clips or 1)] if footer.is_of_videos else [None]
    numbers = pa.array(clips * (count // len(clips)), pa.int32())
    columns = [pa.array(rows.keys, pa.string()), pa.array(rows.labels, pa.int32()), numbers]
    depths = rows.columns.get(DEPTH_COLUMN)
    for number, (item, ids) in enumerate(zip(list(schema)[len(columns) :], rows.layers, strict=True), 1):
        values = pa.array(ids.astype(np.int32, copy=False).ravel())
        unused = None if depths is None else pc.less(depths, number)
        size = math.prod(ids.shape[1:])
        columns.append(pa.FixedSizeListArray.from_arrays(values, size, mask=unused).cast(item.type))
    for name, values in rows.columns.items():
        schema = schema.append(pa.field(name, values.type, nullable=name not in _NOT_NULL))
        columns.append(values)
    publish_table(url, pa.Table.from_arrays(columns, schema=schema), footer)


def publish_table(url: str, table: pa.Table, footer: TokenTableFooter) -> None:
    """Publish columns as a token table with a footer, in the form that all have."""
    with publishing(url) as file:
        pq.write_table(
            table.replace_schema_metadata(footer.to_metadata()),
            file,
            compression="zstd",
            use_dictionary=True,
            row_group_size=ROW_GROUP_ROWS,
        )


def find_token_tables(folder: str) -> dict[str, FoundTokenTable]:
    """Every table in a folder by shard name: one listing, footers read in parallel."""
    return dict(each_token_table(folder))


def each_token_table(
    folder: str, known: Callable[[str, int], bool] = lambda shard, size: False
) -> Iterator[tuple[str, FoundTokenTable]]:
    """The same one after the other, but for those of which shard name and bytes are known: no footer is read twice."""
    files = {name.removesuffix(".parquet"): size for name, size in list_files(folder).items() if _is_table(name)}
    shards = (shard for shard, size in files.items() if not known(shard, size))
    with ThreadPoolExecutor(_SIMULTANEOUS_READS) as pool:
        while part := list(itertools.islice(shards, 32 * _SIMULTANEOUS_READS)):
            found = pool.map(lambda shard: _find(token_table_url(folder, shard), files[shard]), part)
            yield from zip(part, found, strict=True)


def _is_table(name: str) -> bool:
    return name.endswith(".parquet") and name not in (VOCABULARY_FILE, CLASSES_FILE)


def find_token_table(folder: str, shard: str) -> FoundTokenTable:
    """The table of a shard as it stands; FileNotFoundError where there is none."""
    url = token_table_url(folder, shard)
    file_system, path = fsspec.url_to_fs(url)
    return _find(url, file_system.size(path))


def _find(url: str, size: int) -> FoundTokenTable:
    try:
        with fsspec.open(url, "rb") as file:
            metadata = pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        return FoundTokenTable(None, size, f"{url} is no whole Parquet file: {error}")
    try:
        footer = TokenTableFooter.from_metadata(metadata.metadata or {})
    except (ValueError, TypeError) as error:
        return FoundTokenTable(None, size, f"{url} is no token table: {error}", foreign=True)
    if metadata.num_rows != footer.rows:
        return FoundTokenTable(None, size, f"{url} holds {metadata.num_rows} rows, not {footer.rows} by its footer")
    return FoundTokenTable(footer, size)


def read_token_table(url: str, layers: int | None = None) -> tuple[TokenRows, TokenTableFooter]:
    """Read a table, of its words the first layers or all that are stored; only their columns are read, and `depth`.

    ValueError where fewer layers are stored.
    """
    with fsspec.open(url, "rb") as file:
        parquet = pq.ParquetFile(file)
        footer = TokenTableFooter.from_metadata(parquet.metadata.metadata or {})
        grids = footer.stored_grids(url, layers)
        table = parquet.read(columns=footer.columns_to_read(len(grids))).combine_chunks()
    return rows_of_table(table, grids), footer


def rows_of_table(table: pa.Table | pa.RecordBatch, grids: Sequence[Grid], columns: Sequence[str] = ()) -> TokenRows:
    """Rows with their first layers and some optional columns, and `depth` where it is there.

    Words that a row does not use are 0.
    """
    layers = []
    for number, grid in enumerate(grids, 1):
        column = table[f"layer_{number}"]
        ids = np.zeros((table.num_rows, math.prod(grid)), np.int32)
        ids[column.is_valid().to_numpy(zero_copy_only=False)] = (
            pc.list_flatten(column).to_numpy().reshape(-1, ids.shape[1])
        )
        layers.append(ids.reshape(-1, *grid))
    kept = [name for name in table.schema.names if name in (*columns, DEPTH_COLUMN)]
    keys, labels = (tuple(table[name].to_pylist()) for name in ("key", "label"))
    return TokenRows(keys, labels, tuple(layers), {name: table[name] for name in kept})


def open_token_table(
    folder: str, shard: ShardInfo, model_fingerprint: str, layers: int | None = None, frame_stride: int = 1
) -> TokenRows:
    """The words of a shard, of the first layers or all of the model.

    Of several views of a picture the first: the picture itself. ValueError where the table is missing, lacks layers,
    has several clips of a video or clips of another stride, or comes from another model or another shard.
    """
    url = token_table_url(folder, shard.name)
    try:
        rows, footer = read_token_table(url, layers)
    except FileNotFoundError as error:
        raise ValueError(f"{url} does not exist; run `python -m jobs.tokenize_shards` on all shards first") from error
    wanted = {"model_fingerprint": model_fingerprint, "source_sha256": shard.sha256, "frame_stride": frame_stride}
    for name, expected in wanted.items():
        if getattr(footer, name) != expected:
            raise ValueError(f"{url} has {name} {getattr(footer, name)}, and here it is {expected}")
    if rows.depth is not None and (least := int(rows.depth.min(initial=len(rows.layers)))) < len(rows.layers):
        raise ValueError(
            f"{url} has pictures of fewer than {len(rows.layers)} layers; take {least} of them, or write tables by "
            "`python -m jobs.tokenize_shards` without --error"
        )
    if (footer.clips or 1) > 1:
        raise ValueError(
            f"{url} has {footer.clips} rows of each video, and here one is needed; write tables by `python -m "
            "jobs.tokenize_shards` without --clips"
        )
    if footer.views > 1:
        rows = rows.take(np.arange(0, len(rows.keys), footer.views))
    if layers is None and footer.layers < len(footer.grids):
        raise ValueError(
            f"{url} stores {footer.layers} layers of {len(footer.grids)}; here all are needed{MORE_LAYERS}"
        )
    return rows


def publish_manifest(folder: str, tables: Mapping[str, FoundTokenTable]) -> None:
    """Put manifest.json beside the tables: what they say of themselves and their sums, one in memory at a time."""
    shared: dict[str, Any] = {}
    sums = dict.fromkeys(("samples", "errors", "rows", "bytes"), 0)
    for row in _manifest_rows(tables):
        shared = {key: row[key] for key in SHARED_KEYS}
        sums = {key: total + row[key] for key, total in sums.items()}
    head = json.dumps({**shared, "vocabulary": VOCABULARY_FILE, **sums, "tables": []}, indent=1)
    with publishing(join(folder, MANIFEST_FILE)) as file:
        file.write(head.removesuffix("]\n}").encode())
        for number, row in enumerate(_manifest_rows(tables)):
            own = {key: value for key, value in row.items() if key not in SHARED_KEYS}
            file.write(f"{',' if number else ''}\n{textwrap.indent(json.dumps(own, indent=1), '  ')}".encode())
        file.write(b"\n ]\n}\n" if sums["bytes"] else b"]\n}\n")


def _manifest_rows(tables: Mapping[str, FoundTokenTable]) -> Iterator[dict[str, Any]]:
    for name in sorted(tables):
        table = tables[name]
        if table.footer is not None:
            of_file = {"url": f"{name}.parquet", "bytes": table.bytes, "rows": table.footer.rows}
            yield {**of_file, **dataclasses.asdict(table.footer)}
