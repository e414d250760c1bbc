"""Parquet files with a column of image bytes, as dataset hubs publish them, as a source."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from spae.data.media import DEFAULT_LIMITS, MediaError
from spae.data.records import ClassName
from spae.data.sources.base import Entry
from spae.data.sources.containers import BrokenContainers, Containers
from spae.data.sources.files import NOT_TEXT, Place, is_text, path_key, readable
from spae.data.sources.labels import MAX_TEXT_BYTES, Labels, named_classes
from spae.data.sources.parquet_rows import Columns, hub_class_names, open_parquet, row_bytes
from spae.data.sources.patterns import matching_files

BATCH_ROWS = 4096
_HUB_SPLIT = re.compile(r"(?:.*/)?([^/]+)-[0-9]{5}-of-[0-9]{5}[^/]*\.parquet")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParquetSource:
    """Rows of Parquet files: a folder, one file, or a pattern such as 'data/train-*.parquet'.

    The image column holds bytes, or structs of bytes and path. Labels are names, or numbers that `annotations`, the
    `huggingface` metadata of the first file or nothing names. Columns that are not given are found by usual names.

    A row cannot be read alone, and shards take rows from everywhere: a process unpacks each row group once to its
    temporary folder, at most 32 GB or half of the free disk. Data beyond that is unpacked again and again, in the worst
    case (rows a row group) times, 100 with a hub's usual files: such a set is better sharded from tars.
    """

    url: str
    annotations: str = ""
    columns: Columns = field(default_factory=Columns)
    broken_containers: BrokenContainers = "fail"

    def classes(self) -> tuple[ClassName, ...]:
        """The classes that are named, or else those that the label column holds; none without labels."""
        return self._labels.classes

    def entries(self) -> Iterator[Entry]:
        """Every row of every file."""
        containers, unused = Containers(self.broken_containers), dict[str, None]()
        for name in self._files[1]:
            if not is_text(name):
                containers.note(readable(name), NOT_TEXT)
                yield Entry(path_key(name), readable(name), problem=NOT_TEXT)
                continue
            number = 0
            try:
                size = self._row_size(name)
                unused |= dict.fromkeys(self._unused(name))
                for label_text, text, path in self._rows(name):
                    label, problem = self._labels.find(label_text)
                    if len(text.encode()) > MAX_TEXT_BYTES:
                        text, problem = "", f"a text of over {MAX_TEXT_BYTES} bytes"
                    key = path_key(path or f"{name.removesuffix('.parquet')}-{number:07d}")
                    yield Entry(key, f"{name}#{number}", label, size, problem, number, text)
                    number += 1
            except MediaError as error:
                containers.note(name, f"{error}: {number} rows were read")
                yield Entry(path_key(name), name, problem=error.reason)
        containers.close()
        if unused:
            logger.info("%s: left out are the columns %s", self.url, ", ".join(unused))

    def read(self, entry: Entry, limit: int) -> bytes:
        """The image's bytes, cut after `limit`."""
        place = Place(self._files[0], entry.path.rpartition("#")[0])
        return row_bytes(place, self.columns, entry.offset or 0, limit)

    @cached_property
    def _labels(self) -> Labels:
        if self.annotations:
            return Labels.given(named_classes(self.annotations))
        schema, names = self._first_schema(), self._files[1]
        if hub_names := hub_class_names(schema, self.columns.of(schema)):
            return Labels.given(ClassName(label, name) for label, name in enumerate(hub_names))
        found = Counter[str]()
        for name in names:
            with suppress(MediaError):  # entries() names it
                found.update(label for label, _, _ in self._rows(name) if label)
        return Labels.occurring(found.elements())

    def _first_schema(self) -> pa.Schema:
        """Of the first file that is whole."""
        root, names = self._files
        for name in names:
            with suppress(MediaError), open_parquet(Place(root, name)) as file:
                return file.schema_arrow
        raise ValueError(f"none of the {len(names)} files of --input {self.url} is a whole Parquet file: {names[0]}")

    def _unused(self, name: str) -> list[str]:
        """Columns of a file that say nothing here."""
        with open_parquet(Place(self._files[0], name)) as file:
            used = self.columns.of(file.schema_arrow)
            chosen = {used.image.partition(".")[0], used.label, used.text}
            return [column for column in file.schema_arrow.names if column not in chosen]

    @cached_property
    def _files(self) -> tuple[str, list[str]]:
        root, names = matching_files(self.url, ".parquet")
        splits = sorted({match[1] for name in names if (match := _HUB_SPLIT.fullmatch(name))})
        if len(splits) > 1:
            raise ValueError(
                f"--input {self.url} holds the splits {', '.join(splits)}; name one: '{root}/{splits[0]}-*.parquet'"
            )
        return root, names

    def _row_size(self, name: str) -> int:
        """About the bytes of an image, by the footer; MediaError where the file is broken."""
        with open_parquet(Place(self._files[0], name)) as file:
            leaf, metadata = self.columns.of(file.schema_arrow).image, file.metadata
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            chunks = [group.column(column) for group in groups for column in range(group.num_columns)]
            size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == leaf)
            return int(min(size // max(metadata.num_rows, 1), DEFAULT_LIMITS.bytes))  # files can say anything

    def _rows(self, name: str) -> Iterator[tuple[str, str, str]]:
        """Label, text and image path of each row, as text; MediaError where the file is broken."""
        with open_parquet(Place(self._files[0], name)) as file:
            columns = self.columns.of(file.schema_arrow)
            wanted = [column for column in (columns.label, columns.text, columns.path) if column]
            batches = file.iter_batches(BATCH_ROWS, columns=wanted) if wanted else ()
            if not wanted:
                yield from [("", "", "")] * file.metadata.num_rows
            for batch in batches:
                yield from zip(
                    (_label_text(value) for value in _values(batch, columns.label)),
                    (str(value or "") for value in _values(batch, columns.text)),
                    (str(value or "") for value in _values(batch, columns.path)),
                    strict=True,
                )


def _values(batch: pa.RecordBatch, column: str) -> list[object]:
    if not column:
        return [None] * len(batch)
    name, _, member = column.partition(".")
    array = batch.column(name)
    return list((array.field(member) if member else array).to_pylist())


def _label_text(value: object) -> str:
    """Hubs mark a hidden label by -1, columns of floats by NaN."""
    return "" if value is None or (isinstance(value, int | float) and not value >= 0) else str(value)
