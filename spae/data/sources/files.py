"""Files of any file system as inputs: their listing, and reading one or a part of one within bounds."""

import errno
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec

from spae.data.media import MediaError
from spae.data.records import safe_key

NOT_TEXT = "name is not UTF-8"
"""The problem of an input whose path cannot be stored."""
UNREADABLE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""What is lost for good; other errors of a file system are its own, and pass."""
BAD_PATHS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
"""What an operating system says of paths that can be none."""


@dataclass(frozen=True)
class FileItem:
    """One row of a file system's listing."""

    path: str
    kind: str
    """file, directory, or what is wrong with it; links are followed."""
    size: int | None

    @classmethod
    def listed(cls, file_system: Any, row: dict[str, Any]) -> "FileItem":
        """The row, after the target of a link is looked up."""
        path, kind = row["name"].rstrip("/"), row["type"]
        if kind not in ("file", "directory"):  # a link, or a device
            try:
                kind = file_system.info(path)["type"]
            except OSError:
                return cls(path, "broken link", None)
        return cls(path, kind if kind in ("file", "directory") else "not a regular file", row.get("size"))

    @property
    def name(self) -> str:
        """The path's last part."""
        return posixpath.basename(self.path)

    @property
    def problem(self) -> str:
        """Why this can be no input; empty for a file."""
        return {"file": "", "directory": "a linked folder inside a class"}.get(self.kind, self.kind)


@dataclass(frozen=True)
class Place:
    """A file: a URL, and its path below that where it has one.

    File names come from anywhere: as part of a URL, one that holds '://' or '::' would open something else.
    """

    url: str
    path: str = ""

    def locate(self) -> tuple[Any, str]:
        """The file system, opened, and the file's path there."""
        file_system, root = fsspec.url_to_fs(self.url)
        return file_system, f"{root.rstrip('/')}/{self.path}" if self.path else root


def list_folder(url: str) -> list[FileItem]:
    """What lies directly in a folder, sorted by name; FileNotFoundError or NotADirectoryError where there is none."""
    file_system, root = fsspec.url_to_fs(url)
    root = root.rstrip("/")
    items = [FileItem.listed(file_system, row) for row in file_system.ls(root, detail=True)]
    return sorted((item for item in items if item.path != root), key=lambda item: item.name)


def find_files(url: str, folder: str) -> Iterator[FileItem]:
    """Every file below a folder of the file system that `url` names, sorted by path."""
    file_system, _ = fsspec.url_to_fs(url)
    for _, row in sorted(file_system.find(folder, detail=True).items()):
        yield FileItem.listed(file_system, row)


def read_part(place: Place, begin: int, size: int | None, limit: int) -> bytes:
    """`size` bytes of a file from `begin` on (None: to its end), cut after `limit`; MediaError where they are lost."""
    wanted = limit if size is None else min(size, limit)
    if not wanted:
        return b""
    try:
        file_system, path = place.locate()
        data = bytes(file_system.cat_file(path, start=begin, end=begin + wanted))
    except UNREADABLE as error:
        raise MediaError("cannot be read", type(error).__name__) from error
    except (ValueError, ImportError) as error:  # a path that holds NUL, a URL that is none, a store without its library
        raise MediaError("cannot be read", repr(error)) from error
    except OSError as error:
        if error.errno not in BAD_PATHS:
            raise
        raise MediaError("cannot be read", repr(error)) from error
    if size is not None and len(data) != wanted:
        raise MediaError("cannot be read", f"{len(data)} of {wanted} bytes at {begin}")
    return data


def path_key(path: str) -> str:
    """The key of a file by its path below the source.

    n01440764/n01440764_10026 becomes n01440764_10026: a name that carries its class keeps its form.
    """
    parts = posixpath.splitext(path)[0].split("/")
    return safe_key(parts[-1] if len(parts) == 2 and parts[1].startswith(f"{parts[0]}_") else "_".join(parts))


def is_text(name: str) -> bool:
    """Whether a name can be stored as UTF-8; file systems and tars hold others too."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def readable(name: str) -> str:
    """A name that can be stored: what is not UTF-8 in it is replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def counted(counts: Counter[str], shown: int = 10) -> str:
    """Counts as text, the most frequent first: '5000 .wav, 4601 .txt'."""
    parts = [f"{count} {name}" for name, count in counts.most_common(shown)]
    rest = counts.total() - sum(count for _, count in counts.most_common(shown))
    return ", ".join([*parts, f"{rest} others"] if rest else parts)
