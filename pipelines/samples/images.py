"""One input becomes the image of a sample: checked, and stored as it is where shards hold its format and size."""

from dataclasses import dataclass
from typing import Any, Literal

from pipelines.samples.maker import Media
from spae.data.media import (
    DEFAULT_LIMITS,
    STORED_SUFFIXES,
    ImageHeader,
    check_image,
    decode_image,
    encode_jpeg,
    encode_png,
    shrink_image,
)
from spae.data.sources import Entry, Source

CheckName = Literal["header", "decode"]
FormatName = Literal["keep", "jpg", "png"]


@dataclass(frozen=True, kw_only=True)
class ImageSamples:
    """How images are checked and stored; see the flags of `python -m pipelines.images`."""

    kind: Literal["images"] = "images"
    check: CheckName = "header"
    short_side: int | None = None
    square: bool = False
    format: FormatName = "keep"
    quality: int = 95

    def __post_init__(self) -> None:
        if self.short_side is not None and self.short_side < 1:
            raise ValueError(f"--short-side {self.short_side} must be at least 1")
        if self.square and self.short_side is None:
            raise ValueError("--square needs --short-side, the side of the square")
        if not 1 <= self.quality <= 95:
            raise ValueError(f"--quality {self.quality} must be 1 to 95; beyond that files grow and pixels do not gain")

    @property
    def bytes_per_second(self) -> float:
        """What one worker process reads on a 2-core machine, for the estimate of --dry-run."""
        return 300e6 if self.check == "header" and self.short_side is None else 69e6

    def inputs(self, entry: Entry) -> tuple[Entry]:
        """The image itself."""
        return (entry,)

    def media(self, source: Source, entry: Entry) -> Media:
        """The image of an input; MediaError where it can be none."""
        original = source.read(entry, DEFAULT_LIMITS.bytes + 1)
        header = check_image(original, decode=self.check == "decode")  # one opening: 0.97 of a bare loop, else 0.88
        suffix = self._suffix(header)
        if self._is_kept(header, suffix):
            return Media(suffix, original, _metadata(header, header.width, header.height))
        pixels = decode_image(original, short_side=self.short_side)
        if self.short_side is not None:
            pixels = shrink_image(pixels, self.short_side, square=self.square)
        data = encode_jpeg(pixels, self.quality) if suffix == "jpg" else encode_png(pixels)
        encoding = {"encoded_as": suffix} | ({"quality": self.quality} if suffix == "jpg" else {})
        return Media(suffix, data, _metadata(header, pixels.shape[1], pixels.shape[0]) | encoding)

    def _suffix(self, header: ImageHeader) -> str:
        if self.format != "keep":
            return self.format
        return STORED_SUFFIXES.get(header.format, "jpg" if header.is_lossy else "png")

    def _is_kept(self, header: ImageHeader, suffix: str) -> bool:
        """Whether the original bytes are what is asked for."""
        small = self.short_side is None or min(header.width, header.height) <= self.short_side
        whole = not self.square or header.width == header.height
        return STORED_SUFFIXES.get(header.format) == suffix and small and whole


def _metadata(header: ImageHeader, width: int, height: int) -> dict[str, Any]:
    """What the json tells; the size before EXIF orientation where the original bytes are kept."""
    values = {"source_format": header.format, "width": width, "height": height}
    if (width, height) != (header.width, header.height):
        values |= {"source_width": header.width, "source_height": header.height}
    return values
