"""A list of files with their labels, as a source."""

import csv
import posixpath
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TextIO

import fsspec

from spae.data.media import MediaError
from spae.data.records import ClassName
from spae.data.sources.base import Entry
from spae.data.sources.files import NOT_TEXT, Place, is_text, path_key, read_part, readable
from spae.data.sources.labels import (
    LABEL_NAMES,
    MAX_TEXT_BYTES,
    TEXT_NAMES,
    Labels,
    choose_column,
    named_classes,
)

PROTOCOLS = ("file", "gs", "gcs", "s3", "s3a", "http", "https", "abfs", "az", "memory")
"""Of the URLs that a list may hold; fsspec knows others, some of which run commands or open what lies elsewhere."""
WAITS = (0.0, 0.2, 1.0)
"""Seconds before each time that a host is asked."""
PATH_NAMES = ("url", "path", "file", "filename", "file_name", "image", "image_path", "image_url", "filepath")


@dataclass(frozen=True)
class ListSource:
    """A .csv, .tsv or other text file of one image a line: URL or path, then its label, then its caption if any.

    Paths count from the list's folder; absolute ones are allowed where the list itself is a local file. A first line
    that names the columns may order them otherwise and leave out labels or captions. Text files have tabs between
    columns, or a path and after a blank its label number. Labels are names, or numbers, which `annotations` may name.
    """

    url: str
    annotations: str = ""

    def classes(self) -> tuple[ClassName, ...]:
        """The given classes, or those that occur; none where no line has a label."""
        return self._labels.classes

    def entries(self) -> Iterator[Entry]:
        """Every line that is not empty."""
        for path, label_text, text in self._lines():
            label, problem = self._labels.find(label_text)
            if len(text.encode()) > MAX_TEXT_BYTES:
                text, problem = "", f"a text of over {MAX_TEXT_BYTES} bytes"
            yield Entry(path_key(_place(path)), readable(path), label, None, self._problem(path) or problem, text=text)

    def read(self, entry: Entry, limit: int) -> bytes:
        """The file's bytes, cut after `limit`."""
        if problem := self._problem(entry.path):
            raise MediaError(problem)
        alone = "://" in entry.path or entry.path.startswith("/")
        place = Place(entry.path) if alone else Place(posixpath.dirname(self.url), entry.path)
        return _read_web(place, limit) if place.url.startswith("http") else read_part(place, 0, None, limit)

    def _problem(self, path: str) -> str:
        protocol, colon, _ = path.partition("://")
        if not path:
            return "no path"
        if not is_text(path):
            return NOT_TEXT
        if "::" in path or (colon and protocol not in PROTOCOLS):
            return "protocol not allowed"
        local = protocol == "file" if colon else path.startswith("/")
        return "local path in a remote list" if local and not self._is_local else ""

    @cached_property
    def _labels(self) -> Labels:
        if self.annotations:
            return Labels.given(named_classes(self.annotations))
        return Labels.occurring(label for _, label, _ in self._lines() if label)

    @cached_property
    def _is_local(self) -> bool:
        return "://" not in self.url or self.url.startswith("file://")

    def _lines(self) -> Iterator[tuple[str, str, str]]:
        """Path, label and caption of each line; no path where a line cannot be parsed."""
        try:
            with fsspec.open(self.url, "r", encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
                yield from _parsed(stream, self.url)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise ValueError(f"--input {self.url} is no file; give the list: .csv, .tsv or text") from error


def _read_web(place: Place, limit: int) -> bytes:
    """A file of any host; what fails each time is a MediaError."""
    failure: Exception | None = None
    for wait in WAITS:
        time.sleep(wait)
        try:
            return _stream_web(place, limit)
        except FileNotFoundError as error:
            raise MediaError("cannot be read", repr(error)) from error
        except Exception as error:  # what the client raises has no common type
            failure = error
    raise MediaError("cannot be read", repr(failure)) from failure


def _stream_web(place: Place, limit: int) -> bytes:
    """As many bytes as wanted, also of a server that ignores ranges and sends more."""
    file_system, path = place.locate()
    data = bytearray()
    with file_system.open(path, block_size=0, size=1) as stream:  # any size, or one more request asks for it
        while len(data) < limit and (part := stream.read(limit - len(data))):
            data += part
    return bytes(data)


def _parsed(stream: TextIO, url: str) -> Iterator[tuple[str, str, str]]:
    places = [0, 1, 2]
    for number, row in enumerate(_rows(stream, url)):
        if number == 0 and set(map(str.lower, row)) & set(PATH_NAMES):
            names = [cell.strip().lower() for cell in row]
            chosen = [choose_column(names, "", usual, "") for usual in (PATH_NAMES, LABEL_NAMES, TEXT_NAMES)]
            places = [names.index(name) if name else len(row) for name in chosen]
        else:
            path, label, text = (row[place].strip() if place < len(row) else "" for place in places)
            yield path, readable(label), readable(text)


def _rows(stream: TextIO, url: str) -> Iterator[list[str]]:
    """The cells of each line that is not empty; one empty cell where the csv module finds no end to a line."""
    delimiter = {".csv": ",", ".tsv": "\t"}.get(posixpath.splitext(url)[1].lower())
    if delimiter is None:
        yield from (_cells(line) for line in stream if line.strip())
        return
    reader = csv.reader(stream, delimiter=delimiter)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            row = [""]
        if row:
            yield row


def _cells(line: str) -> list[str]:
    if "\t" in line:
        return line.split("\t")
    path, _, label = line.strip().rpartition(" ")
    return [path, label] if path and label.isdigit() else [line.strip()]


def _place(path: str) -> str:
    """A path or URL as names with slashes between."""
    return path.partition("://")[2] or path.strip("/")
