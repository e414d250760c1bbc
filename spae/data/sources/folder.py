"""One folder of files a class, as a source; or one folder of files without classes."""

import logging
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from spae.data.records import ClassName
from spae.data.sources.base import Entry
from spae.data.sources.files import (
    NOT_TEXT,
    FileItem,
    Place,
    counted,
    find_files,
    is_text,
    list_folder,
    path_key,
    read_part,
    readable,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderSource:
    """Class folders of images: `{url}/{class}/**/{image}`; labels count the sorted folder names from 0.

    Inputs are the files whose names one of the `include` patterns takes; the others are counted in the log. Folders
    whose names begin with '.' or '__' are no classes; what they hold, and files beside class folders, are listed as
    problems. A folder without class folders gives samples without labels. A linked folder counts as a class, deeper
    ones are not followed.
    """

    url: str
    include: tuple[str, ...] = ("*",)
    """Of names or, with a slash, of paths below `url`; capitals and small letters are one."""

    def classes(self) -> tuple[ClassName, ...]:
        """One class a folder, empty ones too; none where there are images only."""
        top = self._top()
        names = [item.name for item in top if _names_class(item)]
        if not names and not any(item.kind != "directory" and self._takes(item.name) for item in top):
            raise ValueError(
                f"{self.url} holds no class folders and no file that --include takes ({','.join(self.include)}); "
                "--input names the folder with one folder a class, or with images alone"
            )
        return tuple(ClassName(label, name) for label, name in enumerate(names))

    def entries(self) -> Iterator[Entry]:
        """Every file that is taken, class by class, sorted by path inside each."""
        left_out = Counter[str]()
        for entry in self._files():
            if self._takes(entry.path):
                yield entry
            else:
                left_out[posixpath.splitext(entry.path)[1].lower() or "without suffix"] += 1
        if left_out:
            message = "%s: %d files are no inputs, as --include takes none of their names: %s"
            logger.info(message, self.url, left_out.total(), counted(left_out))

    def read(self, entry: Entry, limit: int) -> bytes:
        """The file's bytes, cut after `limit`."""
        return read_part(Place(self.url, entry.path), 0, entry.size, limit)

    def _files(self) -> Iterator[Entry]:
        labels = {row.name: row.label for row in self.classes()}
        for item in self._top():
            if item.kind != "directory":
                yield _entry(item, item.name, None, "outside of the class folders" if labels else item.problem)
                continue
            label = labels.get(item.name)
            for child in find_files(self.url, item.path):
                problem = child.problem if item.name in labels else "no class folder"
                yield _entry(child, f"{item.name}/{child.path.removeprefix(item.path + '/')}", label, problem)

    def _takes(self, path: str) -> bool:
        path, name = path.lower(), posixpath.basename(path).lower()
        return any(fnmatchcase(path if "/" in pattern else name, pattern.lower()) for pattern in self.include)

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
