"""Where raw samples come from."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from spae.data.sources.base import Entry, Source
from spae.data.sources.containers import BrokenContainers
from spae.data.sources.digits import DigitsSource
from spae.data.sources.finding import Shard, find_classes, find_shards
from spae.data.sources.folder import FolderSource
from spae.data.sources.imagenet import ImageNetSource
from spae.data.sources.kinetics import KineticsSource
from spae.data.sources.list_file import ListSource
from spae.data.sources.parquet import ParquetSource
from spae.data.sources.parquet_rows import Columns
from spae.data.sources.read_ahead import ReadAhead
from spae.data.sources.source_shard import SourceShard
from spae.data.sources.web import Web
from spae.data.sources.webdataset import WebDatasetSource

__all__ = [
    "IMAGE_PATTERNS",
    "VIDEO_PATTERNS",
    "BrokenContainers",
    "Entry",
    "ImageSourceName",
    "Shard",
    "Source",
    "SourceSettings",
    "SourceShard",
    "VideoSourceName",
    "find_classes",
    "find_shards",
]

ImageSourceName = Literal["folder", "digits", "imagenet", "imagenet21k", "webdataset", "parquet", "list"]
VideoSourceName = Literal["folder", "kinetics"]
IMAGE_PATTERNS = (
    "*.jpg,*.jpeg,*.jpe,*.jfif,*.mpo,*.png,*.webp,*.avif,*.heic,*.heif,*.gif,*.bmp,*.tif,*.tiff,*.ppm,*.pgm,*.pbm"
)
VIDEO_PATTERNS = (
    "*.mp4,*.m4v,*.mov,*.3gp,*.3g2,*.mkv,*.webm,*.avi,*.ts,*.m2ts,*.mts,*.mpg,*.mpeg,*.vob,*.wmv,*.flv,*.ogv"
)
"""What a folder's inputs are usually called; what cannot be decoded among them is a dead letter with a reason."""
FREE = {"determines": False}
"""Marks settings of how inputs are found and fetched: the plan holds what they found, so no hash of a shard does."""


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """Which source, in a form that files and messages can hold."""

    name: ImageSourceName | VideoSourceName
    url: str
    """Folder, file or pattern of the inputs, independent of the working directory; empty for digits."""
    split: str
    split_seed: int = 0
    annotations: str = ""
    """File or folder of what the inputs do not say themselves: ground truth, names of the classes."""
    image_column: str = ""
    label_column: str = ""
    text_column: str = ""
    include: str = field(default="", metadata=FREE)
    """Patterns of the file names in a folder that are inputs, with commas between; all files where it is empty."""
    broken_containers: BrokenContainers = field(default="fail", metadata=FREE)
    timeout: float = field(default=30.0, metadata=FREE)
    """Seconds that one answer of a web server may take."""
    retries: int = field(default=5, metadata=FREE)
    """Times that a busy web server is asked again."""
    fetches: int = field(default=1, metadata=FREE)
    """Inputs of a store or of the web that are fetched at once for a shard."""

    def __post_init__(self) -> None:
        for name, least in (("timeout", 0.001), ("retries", 0), ("fetches", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} {getattr(self, name)} must be at least {least}")

    def open(self) -> Source:
        """The source itself. ValueError where it cannot be what it should be."""
        if self.annotations and self.name in ("digits", "folder"):
            raise ValueError(f"--source {self.name} takes no --annotations")
        if self.name != "parquet" and (self.image_column or self.label_column or self.text_column):
            raise ValueError(f"--source {self.name} has no columns to name; only parquet has")
        if self.name != "folder" and self.include:
            raise ValueError(f"--source {self.name} takes no --include; only folder does")
        if self.name == "digits":
            return DigitsSource(self.split, self.split_seed)
        if not self.url:
            raise ValueError(f"--source {self.name} needs --input, the folder or file that holds the inputs")
        return self._open_url()

    @contextmanager
    def reading(self, entries: Sequence[Entry]) -> Iterator[Source]:
        """The source, to read these inputs in this order: of a store or of the web several at once."""
        source = self.open()
        if self.fetches == 1 or not ("://" in self.url or any("://" in entry.path for entry in entries)):
            yield source
            return
        ahead = ReadAhead(source, entries, self.fetches)
        try:
            yield ahead
        finally:
            ahead.close()

    def _open_url(self) -> Source:
        if self.name == "kinetics":
            if not self.annotations:
                raise ValueError("--source kinetics needs --annotations, the CSV table of the clips")
            return KineticsSource(self.url, self.annotations, self.split, self.broken_containers)
        if self.name == "folder":
            patterns = tuple(filter(None, (pattern.strip() for pattern in self.include.split(","))))
            return FolderSource(self.url, patterns or ("*",))
        if self.name == "parquet":
            columns = Columns(self.image_column, self.label_column, self.text_column)
            return ParquetSource(self.url, self.annotations, columns, self.broken_containers)
        if self.name == "webdataset":
            return WebDatasetSource(self.url, self.annotations, self.broken_containers)
        if self.name == "list":
            return ListSource(self.url, self.annotations, Web(self.timeout, self.retries))
        is_1k = self.name == "imagenet"
        return ImageNetSource(self.url, self.annotations, is_1k, self.broken_containers)
