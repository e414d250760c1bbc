"""One folder of files a class, as a source."""

from collections.abc import Iterator
from dataclasses import dataclass

from spae.data.records import ClassName
from spae.data.sources.base import Entry
from spae.data.sources.files import (
    NOT_TEXT,
    FileItem,
    Place,
    find_files,
    is_text,
    list_folder,
    path_key,
    read_part,
    readable,
)


@dataclass(frozen=True)
class FolderSource:
    """Class folders of images: `{url}/{class}/**/{image}`; labels count the sorted folder names from 0.

    Folders whose names begin with '.' or '__' are no classes; what they hold, and files outside of class folders, are
    listed as problems. A linked folder counts as a class, deeper ones are not followed.
    """

    url: str

    def classes(self) -> tuple[ClassName, ...]:
        """One class a folder, empty ones too."""
        names = [item.name for item in self._top() if _names_class(item)]
        if not names:
            raise ValueError(f"{self.url} holds no class folders; --input names the folder with one folder a class")
        return tuple(ClassName(label, name) for label, name in enumerate(names))

    def entries(self) -> Iterator[Entry]:
        """Every file, class by class, sorted by path inside each."""
        labels = {row.name: row.label for row in self.classes()}
        for item in self._top():
            if item.kind != "directory":
                yield _entry(item, item.name, None, "outside of the class folders")
                continue
            label = labels.get(item.name)
            for child in find_files(self.url, item.path):
                problem = child.problem if item.name in labels else "no class folder"
                yield _entry(child, f"{item.name}/{child.path.removeprefix(item.path + '/')}", label, problem)

    def read(self, entry: Entry, limit: int) -> bytes:
        """The file's bytes, cut after `limit`."""
        return read_part(Place(self.url, entry.path), 0, entry.size, limit)

    def _top(self) -> list[FileItem]:
        try:
            return list_folder(self.url)
        except (FileNotFoundError, NotADirectoryError) as error:
            message = f"{self.url} is no folder that can be listed; --input names the folder with one folder a class"
            raise ValueError(message) from error


def _names_class(item: FileItem) -> bool:
    return item.kind == "directory" and is_text(item.name) and not item.name.startswith((".", "__"))


def _entry(item: FileItem, path: str, label: int | None, problem: str) -> Entry:
    if not is_text(path):
        return Entry(path_key(path), readable(path), label, item.size, NOT_TEXT)
    return Entry(path_key(path), path, label, item.size, problem)
