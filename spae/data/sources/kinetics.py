"""Kinetics and what is annotated like it: a table of clips, and a folder with as many of them as could be had."""

import csv
import hashlib
import io
import logging
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

import fsspec

from spae.data.publishing import read_bytes
from spae.data.records import ClassName, safe_key
from spae.data.sources.archives import archived_files, is_archived, read_archived
from spae.data.sources.base import Entry
from spae.data.sources.containers import BrokenContainers
from spae.data.sources.files import NOT_TEXT, is_text, readable
from spae.data.sources.folder import FolderSource
from spae.data.sources.unpacked import TAR_SUFFIXES

COLUMNS = {
    "label": ("label",),
    "id": ("youtube_id", "video_id"),
    "start": ("time_start", "start"),
    "end": ("time_end", "end"),
}
"""What the releases call the columns that are needed."""
SPLIT_NAMES = {"val": ("val", "validate", "validation")}
"""What the releases call a split, where it is not its name alone."""
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v")

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KineticsSource:
    """The clips of one split in a CSV table of annotations, which lie as files below `url`, in class folders or none.

    A file is named `{id}_{start:06d}_{end:06d}.mp4`, or `{id}.mp4` if it is the clip already; times are in seconds. The
    first in the order of paths counts. Where there are tars alone, as the releases are published, the files are their
    members. The inputs are the rows of the table: one without a file is listed as a missing clip; a file without a row,
    in any split, is no input but counted in the log. Labels count the sorted class names of the whole table from 0.
    Published splits differ, so that the log tells a hash of the clips that are there. Listing holds the table and all
    file names in memory: half a million clips took 450 MB and 10 s.
    """

    url: str
    annotations: str
    """URL of the table."""
    split: str
    broken_containers: BrokenContainers = "fail"

    def classes(self) -> tuple[ClassName, ...]:
        """The class names of all splits."""
        names = sorted({row.label for row in self._rows() if row.label})
        return tuple(ClassName(label, name) for label, name in enumerate(names))

    def entries(self) -> Iterator[Entry]:
        """One entry a row of the split, in the order of the table."""
        labels = {row.name: row.label for row in self.classes()}
        rows, files = self._rows(), self._files()
        strangers = files.keys() - {name for row in rows for name in row.file_names}
        seen: set[str] = set()
        used: list[str] = []
        for row in rows:
            if row.split is not None and row.split not in self._split_names:
                continue
            problem = row.problem or ("duplicate annotation" if row.key in seen else "")
            if problem:
                place = f"{posixpath.basename(self.annotations)}:{row.line}"
                yield Entry(f"row-{row.line:07d}", place, problem=problem)
                continue
            seen.add(row.key)
            found = next((files[name] for name in row.file_names if name in files), None)
            used += [] if found is None else [f"{row.key} {row.label}"]
            path, size = found or (f"{row.key}.mp4", None)
            problem = "missing clip" if found is None else "" if is_text(path) else NOT_TEXT
            yield Entry(safe_key(row.key), readable(path), labels[row.label], size, problem)
        self._report(used, len(seen), len(strangers))

    def read(self, entry: Entry, limit: int) -> bytes:
        """The file's bytes, cut after `limit`."""
        if is_archived(entry.path):
            return read_archived(self.url, entry.path, entry.size or 0, limit)
        return FolderSource(self.url).read(entry, limit)

    @property
    def _split_names(self) -> tuple[str, ...]:
        return SPLIT_NAMES.get(self.split, (self.split,))

    def _report(self, used: list[str], clips: int, strangers: int) -> None:
        digest = hashlib.sha256("".join(f"{line}\n" for line in sorted(used)).encode()).hexdigest()
        logger.info("%s: %d clips in use; sha256 of their sorted list (key, label): %s", self.split, len(used), digest)
        if missing := clips - len(used):
            message = "%d of %d annotated clips are missing in %s; 5 to 20%% of Kinetics can no longer be had"
            logger.warning(f"{message}: --max-error-share says how many a run may lack", missing, clips, self.url)
        if strangers:
            logger.info("%d files in %s have no annotation and are left out", strangers, self.url)

    def _rows(self) -> list["_Row"]:
        data = read_bytes(self.annotations)
        if data is None:
            raise ValueError(f"{self.annotations} does not exist; --annotations names the CSV table of the clips")
        try:
            lines = io.StringIO(data.decode("utf-8-sig"), newline="")
        except ValueError as error:
            raise ValueError(f"{self.annotations} is no table of annotations: {error}") from error
        table = csv.DictReader(lines, strict=True)
        try:
            rows = [_Row.parsed(line, row) for line, row in enumerate(table, 2)]
        except csv.Error as error:  # such as a quotation mark that is not closed, which would take rows with it
            message = f"{self.annotations} is no table of annotations, after line {table.line_num}: {error}"
            raise ValueError(message) from error
        if not all(any(name in (table.fieldnames or ()) for name in names) for names in COLUMNS.values()):
            wanted = ", ".join(" or ".join(names) for names in COLUMNS.values())
            raise ValueError(f"{self.annotations} has the columns {table.fieldnames}; needed are {wanted}")
        splits = {row.split for row in rows if row.split is not None}
        if splits and not splits & set(self._split_names):
            raise ValueError(f"{self.annotations} has no split {self.split!r}; it has {', '.join(sorted(splits))}")
        return rows

    def _files(self) -> dict[str, tuple[str, int | None]]:
        """Path below `url` and size of every video file, by its name without suffix; one listing."""
        file_system, root = fsspec.url_to_fs(self.url)
        if not file_system.isdir(root):
            raise ValueError(
                f"{self.url} is no folder that can be listed; --input names the folder that holds the clips"
            )
        files: dict[str, tuple[str, int | None]] = {}
        tars: list[str] = []
        for path, row in sorted(file_system.find(root, detail=True).items()):
            path = path.removeprefix(f"{root.rstrip('/')}/")
            name, suffix = posixpath.splitext(posixpath.basename(path))
            if suffix.lower() in VIDEO_SUFFIXES:
                files.setdefault(name, (path, row.get("size")))
            tars += [path] if path.endswith(TAR_SUFFIXES) else []
        for member, path, size in () if files else archived_files(self.url, tars, self.broken_containers):
            name, suffix = posixpath.splitext(posixpath.basename(member))
            if suffix.lower() in VIDEO_SUFFIXES:
                files.setdefault(name, (path, size))
        return files


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table."""

    line: int
    split: str | None
    label: str = ""
    id: str = ""
    key: str = ""
    problem: str = ""

    @classmethod
    def parsed(cls, line: int, columns: dict[str, str | None]) -> "_Row":
        values = {
            key: next((columns[name] for name in names if name in columns), None) for key, names in COLUMNS.items()
        }
        label, video, split = (values["label"] or "").strip(), values["id"] or "", columns.get("split")
        try:
            start, end = (int(float(values[name] or "")) for name in ("start", "end"))
        except (ValueError, OverflowError):
            start = end = -1
        if not label or not _ID.fullmatch(video) or not 0 <= start <= end < 1_000_000:
            return cls(line, split, problem="bad annotation")
        return cls(line, split, label, video, f"{video}_{start:06d}_{end:06d}")

    @property
    def file_names(self) -> tuple[str, str]:
        """What a file of this clip may be called, without suffix."""
        return self.key, self.id
