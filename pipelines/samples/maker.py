"""What one input becomes: the interface between the writer of shards and the makers of images and clips."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from spae.data.sources import Entry, Source


@dataclass(frozen=True)
class Media:
    """The one media member of a sample."""

    suffix: str
    """jpg, png or mp4."""
    data: bytes
    metadata: dict[str, Any]
    """What the sample's json says of it beside label, source path, size and checksum."""


class SampleMaker(Protocol):
    """A frozen value whose fields, with the source, determine the bytes of every sample."""

    @property
    def bytes_per_second(self) -> float:
        """What one worker process reads on a 2-core machine, for the estimate of --dry-run."""

    def inputs(self, entry: Entry) -> Iterable[Entry]:
        """The planned samples of what a source lists, each an input of its own; one for an image."""

    def media(self, source: Source, entry: Entry) -> Media:
        """Read and make one input's media; MediaError where it can be none."""
