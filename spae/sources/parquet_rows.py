"""Columns of Parquet files that others wrote, and the image bytes of single rows of them."""

import bisect
import json
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from spae.media import MediaError
from spae.sources.labels import LABEL_NAMES, TEXT_NAMES, choose_column

IMAGE_NAMES = ("image", "img", "jpg", "png", "image_bytes", "bytes")
CACHE_BYTES = 256 << 20
"""Row groups of images that a process keeps; the last one read is kept whatever its size."""
GROUP_BYTES = 1 << 30
"""A row group with more image bytes is not read for the sake of one row."""


@dataclass(frozen=True)
class Columns:
    """Names of columns, those inside of structs with a dot; empty where there is none or the usual one is meant."""

    image: str = ""
    label: str = ""
    text: str = ""
    path: str = ""

    def of(self, schema: pa.Schema) -> "Columns":
        """The columns of a file; ValueError where a given one, or any for the images, is missing."""
        image = choose_column(schema.names, self.image, IMAGE_NAMES, "--image-column")
        kind = schema.field(image).type if image else None
        found = replace(
            self,
            label=choose_column(schema.names, self.label, LABEL_NAMES, "--label-column"),
            text=choose_column(schema.names, self.text, TEXT_NAMES, "--text-column"),
        )
        if kind is not None and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            path = f"{image}.path" if kind.get_field_index("path") >= 0 else ""
            return replace(found, image=f"{image}.bytes", path=path)
        if kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            return replace(found, image=image)
        shown = f"{image} is {kind}" if image else f"the columns are {', '.join(schema.names)}"
        raise ValueError(f"no column of image bytes: {shown}; --image-column names one of bytes, or of bytes and path")


@contextmanager
def open_parquet(url: str) -> Iterator[pq.ParquetFile]:
    """An open Parquet file; what is broken in it is a MediaError, here and while the file is read."""
    try:
        with fsspec.open(url, "rb") as stream:
            yield pq.ParquetFile(stream)
    except (pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise error if isinstance(error, MediaError) else MediaError("broken Parquet file", repr(error)) from error
    except OSError as error:
        if (
            type(error) is not OSError or error.errno is not None
        ):  # the store's; Arrow's own for damaged pages have none
            raise
        raise MediaError("broken Parquet file", repr(error)) from error


def hub_class_names(schema: pa.Schema, columns: Columns) -> list[str]:
    """Names of the labels as dataset hubs write them into the footer; empty where they do not."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[columns.label]["names"]]
    except (KeyError, TypeError, ValueError):
        return []


def row_bytes(url: str, columns: Columns, number: int) -> bytes:
    """The image bytes of a row; MediaError where the file is broken or the row has none."""
    with _lock:
        group, row = _place(url, number)
        data = _group(url, columns, group)[row].as_py()
    if data is None:
        raise MediaError("no image bytes")
    return bytes(data)


_lock = Lock()
_starts: OrderedDict[str, list[int]] = OrderedDict()
"""First row of each row group, by URL."""
_groups: OrderedDict[tuple[str, Columns, int], pa.ChunkedArray] = OrderedDict()
"""Image bytes, least recently used first."""


def _place(url: str, number: int) -> tuple[int, int]:
    """Row group and row inside of it."""
    if url not in _starts:
        with open_parquet(url) as file:
            starts, row = [], 0
            for group in range(file.num_row_groups):
                starts.append(row)
                row += file.metadata.row_group(group).num_rows
        _starts[url] = starts
        while len(_starts) > 1024:
            _starts.popitem(last=False)
    group = bisect.bisect_right(_starts[url], number) - 1
    return group, number - _starts[url][group]


def _group(url: str, columns: Columns, group: int) -> pa.ChunkedArray:
    key = (url, columns, group)
    if key not in _groups:
        with open_parquet(url) as file:
            name = columns.of(file.schema_arrow).image
            info = file.metadata.row_group(group)
            parts = [info.column(index) for index in range(info.num_columns)]
            size = sum(part.total_uncompressed_size for part in parts if part.path_in_schema == name)
            if size > GROUP_BYTES:
                raise MediaError("row group too large", f"{size} bytes, at most {GROUP_BYTES}")
            column = file.read_row_group(group, columns=[name]).column(0)
        _groups[key] = column if "." not in name else _field(column, "bytes")
        while len(_groups) > 1 and sum(array.nbytes for array in _groups.values()) > CACHE_BYTES:
            _groups.popitem(last=False)
    _groups.move_to_end(key)
    return _groups[key]


def _field(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    chunks = [chunk.field(name) for chunk in column.chunks]
    return pa.chunked_array(chunks, type=column.type.field(name).type)
