"""Inputs as Arrow rows: what plans are stored in, sorted by and hashed over."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spae.data.records import ClassName
from spae.data.sources import Entry

_ARROW_TYPES: dict[Any, tuple[pa.DataType, bool]] = {
    str: (pa.string(), False),
    int | None: (pa.int64(), True),
    float | None: (pa.float64(), True),
}
ENTRY_SCHEMA = pa.schema(
    [
        pa.field(field.name, arrow_type, nullable=nullable)
        for field in dataclasses.fields(Entry)
        for arrow_type, nullable in [_ARROW_TYPES[field.type]]
    ]
)
"""The columns are the fields of Entry."""
LATER_COLUMNS = ("original",)
"""What plans of version 3 lack; hashed only where a row has a value, so that such plans keep their hashes."""


def entries_to_rows(entries: Sequence[Entry]) -> pa.Table:
    """The inputs, one row each."""
    # column by column: a tuple an input would be as much work for the garbage collector as for us
    columns = [pa.array(list(map(attrgetter(field.name), entries)), field.type) for field in ENTRY_SCHEMA]
    return pa.table(columns, schema=ENTRY_SCHEMA)


def with_later_columns(rows: pa.Table) -> pa.Table:
    """Inputs of an older plan with the columns that it lacks."""
    for name in LATER_COLUMNS:
        if name not in rows.column_names:
            rows = rows.append_column(ENTRY_SCHEMA.field(name), pa.array([""] * rows.num_rows))
    return rows


def rows_to_entries(rows: pa.Table) -> list[Entry]:
    """Undo `entries_to_rows`."""
    return [Entry(**row) for row in rows.to_pylist()]


class PlanHasher:
    """Hashes all that determines the tar of a shard: settings, inputs in order, names of their classes.

    The hash is one of values (as in SHA-256 of lengths, null marks, UTF-8 and little-endian numbers, column by column),
    so that it depends on no library's version; 0.6 microseconds an input.
    """

    def __init__(self, settings: "DataclassValue", classes: Sequence[ClassName]) -> None:
        self._settings = json.dumps(determining(settings), sort_keys=True).encode()
        by_label = sorted(classes, key=lambda row: row.label)
        self._labels = np.array([*(row.label for row in by_label), np.iinfo(np.int64).max])
        self._names = {
            "name": pa.array([*(row.name for row in by_label), None], pa.string()),
            "wnid": pa.array([*(row.wnid for row in by_label), None], pa.string()),
        }

    def hash_of(self, rows: pa.Table) -> str:
        """The plan hash of a shard with these inputs."""
        digest = hashlib.sha256(self._settings)
        labels = rows["label"].fill_null(-1).to_numpy()
        places = np.searchsorted(self._labels, labels)  # ten times faster than Arrow's index_in for 21,841 classes
        places[self._labels[places] != labels] = len(self._labels) - 1
        columns = {name: rows[name] for name in rows.column_names}
        for name in LATER_COLUMNS:
            if not pc.any(pc.not_equal(columns[name], "")).as_py():
                del columns[name]
        columns |= {f"class {name}": values.take(places) for name, values in self._names.items()}
        for name, column in columns.items():
            digest.update(f"\n{name} {rows.num_rows}\n".encode())
            for part in _value_bytes(column):
                digest.update(part)
        return digest.hexdigest()


class DataclassValue(Protocol):
    """Any instance of a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


_FIRST_FIELDS = frozenset(
    [
        *("source", "samples", "seed", "samples_per_shard", "format_version"),
        *("name", "url", "split", "split_seed", "annotations", "image_column", "label_column", "text_column"),
        *("kind", "check", "short_side", "square", "format", "quality"),
        *("frames", "rate", "stride", "size", "crop", "clips", "crf"),
    ]
)
"""The fields of settings when format 3 began."""


def determining(settings: "DataclassValue") -> dict[str, Any]:
    """The values of settings that determine tars, nested as in `asdict`: all but fields marked as FREE.

    Fields that came later are left out where they have their default: finished shards stay valid.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.metadata.get("determines", True) and (field.name in _FIRST_FIELDS or value != field.default):
            values[field.name] = determining(value) if field.name in ("source", "samples") else value
    return values


def _value_bytes(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The values of a column as bytes that tell any two columns of one length apart."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    valid = column.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8).tobytes()
    if pa.types.is_string(column.type):
        texts = column.fill_null("")
        lengths = pc.binary_length(texts).to_numpy().astype("<i4").tobytes()
        whole = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts), "")
        return [valid, lengths, whole[0].as_buffer()]
    kind = "<f8" if pa.types.is_floating(column.type) else "<i8"
    return [valid, column.fill_null(0).to_numpy().astype(kind).tobytes()]
