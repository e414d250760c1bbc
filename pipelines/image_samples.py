"""One input becomes the image of a sample: checked, and stored as it is where shards hold its format."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipelines.samples import Media
from spae.media import DEFAULT_LIMITS, STORED_SUFFIXES, check_image, decode_image, encode_png
from spae.sources import Entry, Source

CheckName = Literal["header", "decode"]


@dataclass(frozen=True, kw_only=True)
class ImageSamples:
    """How images are checked and stored."""

    kind: Literal["images"] = "images"
    check: CheckName = "header"
    """header: each file's structure. decode: every pixel too, several times slower."""

    @property
    def bytes_per_second(self) -> float:
        """What one worker process reads on a 2-core machine, for the estimate of --dry-run."""
        return {"header": 300e6, "decode": 69e6}[self.check]

    def inputs(self, entry: Entry) -> Iterator[Entry]:
        """The image itself."""
        yield entry

    def media(self, source: Source, entry: Entry) -> Media:
        """The image of an input; MediaError where it can be none."""
        original = source.read(entry, DEFAULT_LIMITS.bytes + 1)
        header = check_image(original)
        suffix, data, width, height = STORED_SUFFIXES.get(header.format), original, header.width, header.height
        if suffix is None or self.check == "decode":
            pixels = decode_image(original)
            if suffix is None:
                suffix, data, (height, width) = "png", encode_png(pixels), pixels.shape[:2]
        return Media(suffix, data, {"source_format": header.format, "width": width, "height": height})
