"""Columns of Parquet files that others wrote, and the image bytes of single rows of them."""

import bisect
import functools
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from spae.data.media import MediaError
from spae.data.sources.files import Place
from spae.data.sources.labels import LABEL_NAMES, TEXT_NAMES, choose_column
from spae.data.sources.spool import Spool

IMAGE_NAMES = ("image", "img", "jpg", "png", "image_bytes", "bytes")
BATCH_ROWS = 32
"""Images that are unpacked at once."""
READ_BYTES = 1 << 20
"""What is read of a file at once: without, a whole column of a row group."""


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
def open_parquet(place: Place) -> Iterator[pq.ParquetFile]:
    """An open Parquet file; what is broken in it is a MediaError, here and while the file is read."""
    try:
        file_system, path = place.locate()
        with file_system.open(path, "rb") as stream:
            yield pq.ParquetFile(stream, buffer_size=READ_BYTES)
    except (pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise error if isinstance(error, MediaError) else MediaError("broken Parquet file", repr(error)) from error
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise MediaError("cannot be read", type(error).__name__) from error
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise  # the store's; Arrow's for damaged pages have no number
        raise MediaError("broken Parquet file", repr(error)) from error


def hub_class_names(schema: pa.Schema, columns: Columns) -> list[str]:
    """Names of the labels as dataset hubs write them into the footer; empty where they do not."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[columns.label]["names"]]
    except (KeyError, TypeError, ValueError):
        return []


def row_bytes(place: Place, columns: Columns, number: int, limit: int) -> bytes:
    """The image bytes of a row, cut after `limit`; MediaError where the file is broken or the row has none."""
    starts = _group_starts(place)
    group = bisect.bisect_right(starts, number) - 1
    unpack = functools.partial(_unpacked, place, columns, group)
    data = _spool.read((place, columns, group), number - starts[group], unpack, limit)
    if data is None:
        raise MediaError("no image bytes")
    return data


_spool = Spool()


@functools.lru_cache(maxsize=1024)
def _group_starts(place: Place) -> list[int]:
    """First row of each row group."""
    with open_parquet(place) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    return [0, *itertools.accumulate(sizes)]


def _unpacked(place: Place, columns: Columns, group: int) -> Iterator[bytes | None]:
    """The images of a row group, a few at a time in memory."""
    with open_parquet(place) as file:
        name, _, member = columns.of(file.schema_arrow).image.partition(".")
        leaf = f"{name}.{member}" if member else name
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=[leaf]):
            array = batch.column(name)
            yield from (array.field(member) if member else array).to_pylist()
