"""Where raw samples come from."""

from dataclasses import dataclass
from typing import Literal

from spae.sources.base import Entry, Source
from spae.sources.digits import DigitsSource
from spae.sources.folder import FolderSource
from spae.sources.kinetics import KineticsSource

__all__ = ["Entry", "Source", "SourceName", "SourceSettings"]

SourceName = Literal["folder", "digits", "kinetics"]


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """Which source, in a form that files and messages can hold."""

    name: SourceName
    url: str
    """Folder or URL of the inputs, independent of the working directory; empty for digits."""
    split: str
    split_seed: int = 0
    annotations: str = ""
    """Table of labels that the source comes with, where it needs one."""

    def open(self) -> Source:
        """The source itself. ValueError where it cannot be what it should be."""
        if self.name == "digits":
            return DigitsSource(self.split, self.split_seed)
        if not self.url:
            raise ValueError(f"--source {self.name} needs --input, the folder that holds the inputs")
        if self.name == "kinetics":
            if not self.annotations:
                raise ValueError("--source kinetics needs --annotations, the CSV table of the clips")
            return KineticsSource(self.url, self.annotations, self.split)
        return FolderSource(self.url)
