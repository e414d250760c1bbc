"""A shard that is none of ours: a tar that others wrote, or some files of a folder or of a list."""

import contextlib
import dataclasses
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import fsspec

from spae.data.media import MediaError
from spae.data.publishing import is_local
from spae.data.scratch import ScratchFolder
from spae.data.sources.base import Entry, Source
from spae.data.sources.files import Place, readable
from spae.data.sources.folder import FolderSource
from spae.data.sources.list_file import ListSource
from spae.data.sources.read_ahead import ReadAhead
from spae.data.sources.unpacked import read_packed
from spae.data.sources.webdataset import tar_entries

Media = bytes | MediaError
"""An input's bytes, or why it has none."""
FETCHES = 16
"""Files of a store or of the web that are fetched at once for a shard."""


@dataclass(frozen=True)
class _Tar:
    """What reads the members of one tar."""

    place: Place

    def read(self, entry: Entry, limit: int) -> bytes:
        return read_packed(self.place, entry.offset or 0, entry.size or 0, limit)


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceShard:
    """Inputs that are worked on together, as those of a `ShardInfo` are."""

    name: str
    kind: Literal["tar", "folder", "list"]
    url: str
    """The tar, or the folder or list that the files are of."""
    sha256: str
    """Of the paths, sizes and versions (etag, or time of the last change) of what it is made of: its identity."""
    bytes: int
    """As far as known: servers of the web are not asked for sizes."""
    samples: int | None = None
    """Inputs; None for a tar of which nobody has read the headers."""
    entries: tuple[Entry, ...] = ()
    """The files, each under its path as key; none of a tar."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "SourceShard":
        """Undo `dataclasses.asdict` and JSON."""
        return cls(**{**values, "entries": tuple(Entry(**entry) for entry in values["entries"])})

    def counted(self) -> "SourceShard":
        """The same with its number of samples, where telling it takes no copy of a tar."""
        if self.samples is not None or not is_local(self.url):
            return self
        return dataclasses.replace(self, samples=len(tar_entries(Place(self.url), self.url)))

    def keys(self) -> set[str]:
        """Key of each input."""
        with self._listed() as (entries, _):
            return {entry.key for entry in entries}

    def listed(self) -> tuple[Entry, ...]:
        """Each input without its bytes, with the texts that stand beside it."""
        with self._listed() as (entries, _):
            return entries

    def read(self, limit: int) -> Iterator[tuple[Entry, Media]]:
        """Every input in its order, with its bytes cut after `limit` or why it has none.

        ValueError where a tar cannot be read whole. What the web refuses for now is an error of its input.
        """
        with self._listed() as (entries, source):
            for entry in entries:
                try:
                    if entry.problem:
                        raise MediaError(entry.problem)
                    yield entry, source.read(entry, limit)
                except MediaError as error:
                    yield entry, error

    @contextlib.contextmanager
    def _listed(self) -> Iterator[tuple[tuple[Entry, ...], Source | _Tar]]:
        with contextlib.ExitStack() as stack:
            if self.kind == "tar":
                place = Place(self.url if is_local(self.url) else _copy(self.url, stack))
                yield tuple(tar_entries(place, self.url)), _Tar(place)
                return
            source: Source = FolderSource(self.url) if self.kind == "folder" else ListSource(self.url)
            if not is_local(self.url) or any("://" in entry.path for entry in self.entries):
                source = ReadAhead(source, self.entries, FETCHES)
                stack.callback(source.close)
            yield self.entries, source


def _copy(url: str, stack: contextlib.ExitStack) -> str:
    """A tar of a store, fetched once: member by member it would take two requests a picture."""
    file_system, path = fsspec.url_to_fs(url)
    local = posixpath.join(stack.enter_context(ScratchFolder("tar")), readable(posixpath.basename(path)))
    file_system.get_file(path, local)
    return local
