"""One input becomes the clip of a sample: the whole video as it is, or a planned part of it, cut and encoded here."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.samples.cut import Cut
from pipelines.samples.images import CheckName
from pipelines.samples.maker import Media
from spae.data.media import MediaError, fit_image
from spae.data.mp4 import encode_mp4
from spae.data.records import safe_key
from spae.data.sources import Entry, Source
from spae.data.video import DEFAULT_VIDEO_LIMITS, Frame, VideoHeader, check_video, read_frames

MAX_DIFFERENCE = 12.0
"""Mean absolute difference, of 256 levels, of a frame and its encoding, both reduced to SKETCH_SIDE: what compression
costs averages out. Measured: 2 for photographs at crf 18, 10 at crf 51; 17 for red and blue swapped, 52 for a frame of
half a second later."""
SKETCH_SIDE = 8


@dataclass(frozen=True, kw_only=True)
class VideoSamples:
    """How clips are checked, cut and stored; see the flags of `python -m pipelines.videos`."""

    kind: Literal["clips"] = "clips"
    check: CheckName = "header"
    frames: int | None = None
    rate: float | None = None
    stride: int = 1
    size: int | None = None
    crop: bool = True
    clips: int = 1
    crf: int = 18

    def __post_init__(self) -> None:
        for name in ("frames", "stride", "clips", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} {value} must be at least 1")
        if self.frames is None and (self.rate, self.stride, self.clips) != (None, 1, 1):
            raise ValueError("--rate, --stride and --clips cut clips; give their length with --frames too")
        if self.rate is not None and (self.stride != 1 or not 0 < self.rate <= 1000):
            raise ValueError(f"--rate {self.rate} must be over 0, at most 1000, and without --stride")
        if self.size is not None and self.size % 2:
            raise ValueError(f"--size {self.size} must be even: the encoder stores colours for 2 x 2 pixels")
        if self.clips > 100 or not 0 <= self.crf <= 51:
            raise ValueError(f"--clips {self.clips} must be at most 100, and --crf {self.crf} between 0 and 51")

    @property
    def bytes_per_second(self) -> float:
        """What one worker process reads on a 2-core machine, for the estimate of --dry-run."""
        if self.frames is not None:
            return 4e6
        return 4e5 if self.size is not None else {"header": 50e6, "decode": 5e6}[self.check]

    def inputs(self, entry: Entry) -> Iterator[Entry]:
        """The planned clips of a video, each an input of its own; `offset` is its number where there are more."""
        if self.clips == 1:
            yield entry
            return
        for clip in range(self.clips):
            yield replace(entry, key=safe_key(f"{entry.key}-c{clip:02d}"), offset=clip)

    def media(self, source: Source, entry: Entry) -> Media:
        """The clip of an input; MediaError where it can be none."""
        original = source.read(replace(entry, offset=None), DEFAULT_VIDEO_LIMITS.bytes + 1)
        cut_or_resized = self.frames is not None or self.size is not None
        header = check_video(original, decode=self.check == "decode" and not cut_or_resized)
        if header.is_stored and not cut_or_resized:
            return Media("mp4", original, _metadata(header, header, 0.0))
        frames, rate, begin = read_frames(original), header.frames_per_second, header.times[0]
        if self.frames is not None:
            cut = Cut(self.frames, self.rate, self.stride)
            place = Fraction(1, 2) if self.clips == 1 else Fraction(entry.offset or 0, self.clips - 1)
            times = cut.times(header, place)
            frames, rate, begin = cut.clip(original, header, times), cut.rate_of(header), times[0]
        data, made = self._encoded(frames, rate)
        metadata = _metadata(header, made, begin - header.times[0])
        return Media("mp4", data, {**metadata, "audio": "dropped" if header.audio else "none", "crf": self.crf})

    def _encoded(self, frames: Iterable[Frame], rate: float) -> tuple[bytes, VideoHeader]:
        """The frames in their size as mp4, decoded again and compared."""
        sketches: list[NDArray[np.int16]] = []

        def fitted() -> Iterator[Frame]:
            for frame in frames:
                pixels = self._fitted(frame.pixels)
                sketches.append(_sketch(pixels))
                yield Frame(frame.time, pixels)

        data = encode_mp4(fitted(), rate=rate, crf=self.crf)
        decoded = [_sketch(frame.pixels) for frame in read_frames(data)]
        if len(decoded) != len(sketches):
            raise MediaError("encoding differs", f"{len(decoded)} of {len(sketches)} frames")
        difference = max(float(np.abs(a - b).mean()) for a, b in zip(sketches, decoded, strict=True))
        if difference > MAX_DIFFERENCE:
            raise MediaError("encoding differs", f"by {difference:.1f} of 256 levels")
        return data, check_video(data)

    def _fitted(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.size is None:
            return pixels
        sides = height, width = pixels.shape[:2]
        if self.crop:
            return fit_image(pixels, (self.size, self.size))
        if min(sides) <= self.size:
            return pixels
        long = round(max(sides) * self.size / min(sides) / 2) * 2
        return fit_image(pixels, (self.size, long) if height < width else (long, self.size))


def _sketch(pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
    small = Image.fromarray(pixels).resize((SKETCH_SIDE, SKETCH_SIDE), Image.Resampling.BOX)
    return np.asarray(small).astype(np.int16)


def _metadata(video: VideoHeader, clip: VideoHeader, begin: float) -> dict[str, Any]:
    """What the json of a clip says of it and of the video that it comes from; times in seconds from its first frame."""
    return {
        "source_format": video.container,
        "source_codec": video.codec,
        "width": clip.width,
        "height": clip.height,
        "fps": round(clip.frames_per_second, 6),
        "frames": len(clip.times),
        "t0": round(begin, 6),
        "t1": round(begin + clip.duration, 6),
        "audio": "kept" if video.audio else "none",
    }
