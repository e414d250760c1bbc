"""One folder of files a class, as a source."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec

from spae.media import MediaError
from spae.records import ClassName, safe_key
from spae.sources.base import Entry


@dataclass(frozen=True)
class FolderSource:
    """Class folders of images: `{url}/{class}/**/{image}`; labels count the sorted folder names from 0.

    Folders whose names begin with '.' or '__' are no classes; what they hold, and files outside of class folders, are
    listed as problems. A linked folder counts as a class, deeper ones are not followed.
    """

    url: str

    def classes(self) -> tuple[ClassName, ...]:
        """One class a folder, empty ones too."""
        names = [item.name for item in self._top() if item.names_class]
        if not names:
            raise ValueError(f"{self.url} holds no class folders; --input names the folder with one folder a class")
        return tuple(ClassName(label, name) for label, name in enumerate(names))

    def entries(self) -> Iterator[Entry]:
        """Every file, class by class, sorted by path inside each."""
        labels = {row.name: row.label for row in self.classes()}
        for item in self._top():
            if item.kind != "directory":
                yield item.entry(item.name, None, "outside of the class folders")
                continue
            label = labels.get(item.name)
            for child in self._files(item.path):
                problem = child.problem if item.name in labels else "no class folder"
                yield child.entry(f"{item.name}/{child.path.removeprefix(item.path + '/')}", label, problem)

    def read(self, entry: Entry, limit: int) -> bytes:
        """The file's bytes, cut after `limit`."""
        file_system, root = fsspec.url_to_fs(self.url)
        try:
            return bytes(file_system.cat_file(f"{root.rstrip('/')}/{entry.path}", start=0, end=limit))
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise MediaError("cannot be read", type(error).__name__) from error

    def _top(self) -> list["_Item"]:
        """What lies directly in the folder, sorted by name."""
        file_system, root = fsspec.url_to_fs(self.url)
        try:
            listing = file_system.ls(root, detail=True)
        except (FileNotFoundError, NotADirectoryError) as error:
            message = f"{self.url} is no folder that can be listed; --input names the folder with one folder a class"
            raise ValueError(message) from error
        items = [_Item.listed(file_system, row) for row in listing]
        return sorted((item for item in items if item.path != root.rstrip("/")), key=lambda item: item.name)

    def _files(self, folder: str) -> Iterator["_Item"]:
        """Every file below a folder, sorted by path."""
        file_system, _ = fsspec.url_to_fs(self.url)
        for _, row in sorted(file_system.find(folder, detail=True).items()):
            yield _Item.listed(file_system, row)


@dataclass(frozen=True)
class _Item:
    """One row of a file system's listing."""

    path: str
    kind: str
    """file, directory, or what is wrong with it; links are followed."""
    size: int | None

    @classmethod
    def listed(cls, file_system: Any, row: dict[str, Any]) -> "_Item":
        path, kind = row["name"].rstrip("/"), row["type"]
        if kind not in ("file", "directory"):  # a link, or a device
            try:
                kind = file_system.info(path)["type"]
            except OSError:
                return cls(path, "broken link", None)
        return cls(path, kind if kind in ("file", "directory") else "not a regular file", row.get("size"))

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)

    @property
    def names_class(self) -> bool:
        return self.kind == "directory" and _is_text(self.name) and not self.name.startswith((".", "__"))

    @property
    def problem(self) -> str:
        return {"file": "", "directory": "a linked folder inside a class"}.get(self.kind, self.kind)

    def entry(self, path: str, label: int | None, problem: str) -> Entry:
        """This file as an input, by its path below the source."""
        parts = posixpath.splitext(path)[0].split("/")
        # n01440764/n01440764_10026 becomes n01440764_10026: a name that carries its class keeps its form
        key = parts[-1] if len(parts) == 2 and parts[1].startswith(f"{parts[0]}_") else "_".join(parts)
        if not _is_text(path):
            path, problem = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), "name is not UTF-8"
        return Entry(safe_key(key), path, label, self.size, problem)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
