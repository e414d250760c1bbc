"""A list of files with their labels, as a source."""

import logging
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from spae.data.media import MediaError
from spae.data.records import ClassName
from spae.data.sources.base import Entry
from spae.data.sources.files import NOT_TEXT, Place, is_text, path_key, read_part, readable
from spae.data.sources.labels import MAX_TEXT_BYTES, Labels, named_classes
from spae.data.sources.list_lines import list_lines, unused_columns
from spae.data.sources.web import Web

PROTOCOLS = ("file", "gs", "gcs", "s3", "s3a", "http", "https", "abfs", "az", "memory")
"""Of the URLs that a list may hold; fsspec knows others, some of which run commands or open what lies elsewhere."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListSource:
    """A .csv, .tsv or other text file of one image a line: URL or path, then its label, then its caption if any.

    Paths count from the list's folder; absolute ones are allowed where the list itself is a local file. A first line
    that names the columns may order them otherwise and leave out labels or captions. Text files have tabs between
    columns, or a path and after a blank its label number. A .tsv is taken as quoted where each cell that begins with a
    quotation mark is a quoted one; elsewhere these are marks like others. A line of another number of columns is a
    problem. Labels are names, or numbers, which `annotations` may name.
    """

    url: str
    annotations: str = ""
    web: Web = field(default_factory=Web)

    def classes(self) -> tuple[ClassName, ...]:
        """The given classes, or those that occur; none where no line has a label."""
        return self._labels.classes

    def entries(self) -> Iterator[Entry]:
        """Every line that is not empty."""
        if unused := unused_columns(self.url):
            logger.info("%s: left out are the columns %s", self.url, ", ".join(unused))
        for line in list_lines(self.url):
            label, problem = self._labels.find(line.label)
            text, problem = line.text, line.problem or self._problem(line.path) or problem
            if len(text.encode()) > MAX_TEXT_BYTES:
                text, problem = "", f"a text of over {MAX_TEXT_BYTES} bytes"
            yield Entry(path_key(_place(line.path)), readable(line.path), label, None, problem, text=text)

    def read(self, entry: Entry, limit: int) -> bytes:
        """The file's bytes, cut after `limit`."""
        if problem := self._problem(entry.path):
            raise MediaError(problem)
        place = self.place(entry)
        if place.url.startswith(("http://", "https://")):
            return self.web.read(f"{place.url}/{place.path}" if place.path else place.url, limit)
        return read_part(place, 0, None, limit)

    def place(self, entry: Entry) -> Place:
        """Where an input lies."""
        alone = "://" in entry.path or entry.path.startswith("/")
        return Place(entry.path) if alone else Place(posixpath.dirname(self.url), entry.path)

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
        return Labels.occurring(line.label for line in list_lines(self.url) if line.label)

    @cached_property
    def _is_local(self) -> bool:
        return "://" not in self.url or self.url.startswith("file://")


def _place(path: str) -> str:
    """A path or URL as names with slashes between."""
    return path.partition("://")[2] or path.strip("/")
