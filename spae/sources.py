"""Where raw samples come from: a source lists its inputs cheaply, and reads one of them later, in a worker.

A source is a small frozen value that travels to workers; file systems are opened on use. Whatever lies in a source is
listed: an input that cannot become a sample is listed with its problem, so that inputs = samples + errors.
"""

import hashlib
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

import fsspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spae.media import MediaError, encode_png
from spae.records import ClassName, safe_key

SourceName = Literal["folder", "digits"]
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_SIDE = 32
DIGIT_SPLITS = {"train": (0.0, 0.7), "val": (0.7, 0.85), "test": (0.85, 1.0)}
"""Share of each class's shuffled samples where a split begins and ends."""


@dataclass(frozen=True)
class Entry:
    """One input: its key (not yet unique), where its source finds it, its label if it has one."""

    key: str
    path: str
    label: int | None = None
    size: int | None = None
    """Bytes, where listing tells."""
    problem: str = ""
    """Why this input can be no sample, where listing tells already; empty for the others."""


class Source(Protocol):
    """What every source offers; `read` is called in workers, the others where the plan is made."""

    def classes(self) -> tuple[ClassName, ...]:
        """The labels and their names, by label."""

    def entries(self) -> Iterator[Entry]:
        """All inputs, in an order that depends on the source alone."""

    def read(self, entry: Entry, limit: int) -> bytes:
        """The bytes of an input, cut after `limit`; MediaError where it can never be read."""


def open_source(name: SourceName, url: str, split: str, split_seed: int) -> Source:
    """The source of that name. ValueError where it cannot be what it should be."""
    if name == "digits":
        return DigitsSource(split, split_seed)
    if not url:
        raise ValueError("--source folder needs --input, the folder that holds one folder of images a class")
    return FolderSource(url)


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


@dataclass(frozen=True)
class DigitsSource:
    """The 1,797 handwritten digits that scikit-learn ships (8x8 grey, 0 to 16), upsampled bicubically to 32x32, as PNG.

    The split is stratified: the samples of each class are ordered by a hash of (split_seed, index) and cut at 70% and
    85%, so that it depends on no library's random numbers.
    """

    split: str
    split_seed: int

    def __post_init__(self) -> None:
        if self.split not in DIGIT_SPLITS:
            raise ValueError(f"split {self.split!r} of the digits must be one of {', '.join(DIGIT_SPLITS)}")

    def classes(self) -> tuple[ClassName, ...]:
        """zero to nine."""
        return tuple(ClassName(label, name) for label, name in enumerate(DIGIT_NAMES))

    def entries(self) -> Iterator[Entry]:
        """The digits of the split, by their index in the data set."""
        _, labels = _digits()
        begin, end = DIGIT_SPLITS[self.split]
        chosen: list[int] = []
        for label in range(len(DIGIT_NAMES)):
            order = sorted(np.flatnonzero(labels == label).tolist(), key=self._position)
            chosen += order[round(begin * len(order)) : round(end * len(order))]
        for index in sorted(chosen):
            yield Entry(f"digit-{index:04d}", f"load_digits/{index}", int(labels[index]))

    def read(self, entry: Entry, limit: int) -> bytes:
        """The digit as a grey PNG."""
        images, _ = _digits()
        small = np.round(images[int(posixpath.basename(entry.path))] * (255 / 16)).astype(np.uint8)
        large = Image.fromarray(small).resize((DIGIT_SIDE, DIGIT_SIDE), Image.Resampling.BICUBIC)
        return encode_png(np.asarray(large))[:limit]

    def _position(self, index: int) -> bytes:
        return hashlib.sha256(f"{self.split_seed}|{index}".encode()).digest()


@lru_cache(maxsize=1)
def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("--source digits needs scikit-learn; install the extra `spae[demo]`") from error
    data: Any = load_digits()
    return data.images, data.target


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
