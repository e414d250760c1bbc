"""Where raw samples come from."""

from dataclasses import dataclass
from typing import Literal

from spae.sources.base import Entry, Source
from spae.sources.digits import DigitsSource
from spae.sources.folder import FolderSource

__all__ = ["Entry", "Source", "SourceName", "SourceSettings"]

SourceName = Literal["folder", "digits"]


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """Which source, in a form that files and messages can hold."""

    name: SourceName
    url: str
    """Folder or URL of the inputs, independent of the working directory; empty for digits."""
    split: str
    split_seed: int = 0

    def open(self) -> Source:
        """The source itself. ValueError where it cannot be what it should be."""
        if self.name == "digits":
            return DigitsSource(self.split, self.split_seed)
        if not self.url:
            raise ValueError("--source folder needs --input, the folder that holds one folder of images a class")
        return FolderSource(self.url)
