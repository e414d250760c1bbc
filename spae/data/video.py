"""Bytes to clips, by PyAV: one decoder for sharding, verification and training.

As in `spae/data/media.py` nothing is believed. A file is read from memory by a few demuxers and decoders that open no
other file or URL, sizes are bounded before memory is taken, and whatever goes wrong is one `MediaError` that says why.
What cannot be caught is a crash of libav itself, which 60,000 mutated files of 15 formats did not cause.
"""

import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from spae.data.image_bytes import is_picture
from spae.data.media import MediaError

CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": "mp4",
    "matroska,webm": "matroska",
    "avi": "avi",
    "mpegts": "mpegts",
    "mpeg": "mpeg",
}
"""What is opened at all, by libavformat's names; playlists such as hls, dash and concat would open other files."""
CODECS = frozenset(
    {"h264", "hevc", "libdav1d", "vp8", "vp9", "mpeg4", "msmpeg4v2", "msmpeg4", "mpeg2video", "mpeg1video", "h263"}
    | {"mjpeg", "ffv1", "rawvideo"}
)
"""Decoders, by libavcodec's names."""
STORED_CODECS = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
"""What shards hold as it is where it comes in an mp4; anything else is encoded anew."""
EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
"""The fast conversions give other bytes on other processors; this one takes 0.6 ms for 340 x 256."""

_SAME_RATE = 0.01

ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class VideoLimits:
    """Largest clip that is opened."""

    bytes: int = 1 << 28
    frame_pixels: int = 8_900_000
    """Width times height: 4096 x 2160 fits, and takes 27 MB as uint8 RGB."""
    frames: int = 20_000
    pixels: int = 20_000_000_000
    """Of all frames: 5 minutes of 1920 x 1080 at 30 frames a second fit, some 2 minutes of decoding."""


DEFAULT_VIDEO_LIMITS = VideoLimits()


@dataclass(frozen=True)
class VideoHeader:
    """What a clip's headers and packets say, and the upright size of its first frame."""

    container: str
    codec: str
    width: int
    height: int
    times: tuple[float, ...]
    """When each frame is shown, in seconds of the file's own time, ascending."""
    frames_per_second: float
    """On average."""
    audio: bool

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last, which is taken to last as long as the average."""
        return self.times[-1] - self.times[0] + 1 / self.frames_per_second

    @property
    def is_stored(self) -> bool:
        """Whether shards hold such a file as it is."""
        return self.container == "mp4" and self.codec in STORED_CODECS


@dataclass(frozen=True)
class Frame:
    """One picture of a clip."""

    time: float
    """Seconds of the file's own time, in which the first frame need not be at 0."""
    pixels: NDArray[np.uint8]
    """RGB (H, W, 3), upright."""


def check_video(data: bytes, *, decode: bool = False, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> VideoHeader:
    """Check the headers, the place of every packet and the first frame of a clip, and all frames if `decode` is given.

    A cut mp4 is seen in any case: its index points beyond its end. MediaError where no video can be decoded.
    """
    with _open(data, limits) as container:
        stream = _video(container, limits)
        times, rate = _packet_times(container, stream, limits), _rate(stream)
        if stream.width * stream.height * len(times) > limits.pixels:
            raise MediaError("too many pixels", f"{len(times)} frames of {stream.width} x {stream.height}")
        name, codec = CONTAINERS[container.format.name], stream.codec_context.codec.canonical_name
        audio = bool(container.streams.audio)
    height, width, _ = next(read_frames(data, limits=limits)).pixels.shape
    if decode:
        for _ in read_frames(data, wanted=lambda time: False, limits=limits):
            pass
    if len(times) > 1:
        rate = (len(times) - 1) / (times[-1] - times[0])
    return VideoHeader(name, codec, width, height, tuple(times), rate, audio)


def read_frames(
    data: bytes,
    *,
    wanted: Callable[[float], bool] = lambda time: True,
    limits: VideoLimits = DEFAULT_VIDEO_LIMITS,
) -> Iterator[Frame]:
    """Decode a clip frame by frame, at least one, holding one at a time; only the times that are wanted become pixels.

    Raises MediaError at the first damaged frame or packet, one whose size is another than the first one's, and where
    time does not move on.
    """
    size: tuple[int, int] | None = None
    last = 0.0
    with _open(data, limits) as container:
        stream = _video(container, limits)
        clock = _clock(container, stream)
        for index, frame in enumerate(_guarded(container.decode(stream))):
            time = clock(index, frame.pts)
            if size and time <= last:
                raise MediaError("broken video", f"frame {index} is not later than the one before")
            size, last = size or (frame.width, frame.height), time
            if (frame.width, frame.height) != size:
                raise MediaError("frame size changes", f"{frame.width} x {frame.height} after {size[0]} x {size[1]}")
            if frame.is_corrupt:
                raise MediaError("broken video", f"frame {index}")
            if index >= limits.frames:
                raise MediaError("too many frames", f"over {limits.frames}")
            if wanted(time):
                yield Frame(time, _rgb(frame))
    if not size:
        raise MediaError("no frames")


@dataclass(frozen=True)
class ClipShape:
    """Which frames of a video are a clip, wherever it begins."""

    frames: int
    stride: int = 1
    """How many frames further in the video each next frame lies."""
    rate: float | None = None
    """Frames a second that the video must have, within 1%; None or 0 for any."""

    @property
    def span(self) -> int:
        """Frames of the video from the first of the clip to its last."""
        return (self.frames - 1) * self.stride + 1


def decode_clips(
    data: bytes, shape: ClipShape, places: Sequence[float], *, limits: VideoLimits = DEFAULT_VIDEO_LIMITS
) -> list[NDArray[np.uint8]]:
    """Clips of a video as uint8 (T, H, W, 3), decoded in one pass; a place is 0 for the first there is, 1 for the last.

    MediaError where the video is too short, of another rate or damaged.
    """
    header = check_video(data, limits=limits)
    times, span = header.times, shape.span
    if shape.rate and abs(header.frames_per_second / shape.rate - 1) > _SAME_RATE:
        raise MediaError("other frame rate", f"{header.frames_per_second:.6g} a second, not {shape.rate:g}")
    if len(times) < span:
        raise MediaError("too short", f"{len(times)} of {span} frames")
    firsts = [round(place * (len(times) - span)) for place in places]
    chosen = [times[first : first + span : shape.stride] for first in firsts]
    needed = {time for clip in chosen for time in clip}
    read = read_frames(data, wanted=needed.__contains__, limits=limits)
    pixels = {frame.time: frame.pixels for frame in itertools.islice(read, len(needed))}
    if len(pixels) < len(needed):
        raise MediaError("broken video", f"{len(pixels)} of {len(needed)} frames")
    return [np.stack([pixels[time] for time in clip]) for clip in chosen]


def _open(data: bytes, limits: VideoLimits) -> InputContainer:
    if not data:
        raise MediaError("empty file")
    if len(data) > limits.bytes:
        raise MediaError("too many bytes", f"over {limits.bytes}")
    options = {
        "format_whitelist": ",".join(CONTAINERS),
        "protocol_whitelist": "none",
        "codec_whitelist": ",".join(sorted(CODECS)),
        "max_pixels": str(limits.frame_pixels),
    }
    try:
        return av.open(io.BytesIO(data), "r", options=options, metadata_errors="replace", io_open=_open_nothing)
    except Exception as error:  # libav's errors derive from a dozen of Python's
        details = "a picture; a model of pictures takes it" if is_picture(data) else repr(error)
        raise MediaError("no video file", details) from error


def _open_nothing(url: str, *_: object) -> None:
    raise PermissionError(f"a clip may open no other file: {url}")


def _video(container: InputContainer, limits: VideoLimits) -> VideoStream:
    """The video stream to read, its decoder set up; pictures attached to audio are none."""
    streams = [stream for stream in container.streams.video if not stream.disposition & stream.disposition.attached_pic]
    if not streams:
        raise MediaError("no video stream")
    stream = streams[0]
    if stream.codec_context is None or stream.codec_context.name not in CODECS:
        raise MediaError("unknown codec", stream.codec_context.name if stream.codec_context else "")
    if stream.width * stream.height > limits.frame_pixels:
        raise MediaError("too many pixels", f"{stream.width} x {stream.height}, at most {limits.frame_pixels} a frame")
    stream.codec_context.thread_count = 1
    # without bitexact, old codecs such as MPEG-4 part 2 choose their arithmetic by the processor
    stream.codec_context.options = {"max_pixels": str(limits.frame_pixels), "flags": "+bitexact"}
    return stream


def _packet_times(container: InputContainer, stream: VideoStream, limits: VideoLimits) -> list[float]:
    times: list[float] = []
    clock = _clock(container, stream)
    for packet in _guarded(container.demux(stream)):
        if packet.size and not packet.is_discard:
            if packet.is_corrupt:
                raise MediaError("broken video", f"packet {len(times)}")
            times.append(clock(len(times), packet.pts))
        if len(times) > limits.frames:
            raise MediaError("too many frames", f"over {limits.frames}")
    if not times:
        raise MediaError("no frames")
    if len(set(times)) < len(times):
        raise MediaError("broken video", "two frames have one time")
    return sorted(times)


def _clock(container: InputContainer, stream: VideoStream) -> Callable[[int, int | None], float]:
    """A function of a frame's number and time stamp that gives its seconds.

    Avi knows no times but a constant rate; what libavformat tells of them is not in order.
    """
    rate, seconds = _rate(stream), float(stream.time_base or 0)

    def time(index: int, pts: int | None) -> float:
        if container.format.name == "avi":
            return index / rate
        if pts is None:
            raise MediaError("broken video", f"frame {index} has no time")
        return pts * seconds

    return time


def _rate(stream: VideoStream) -> float:
    return float(stream.average_rate or stream.guessed_rate or 25)


def _rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    try:
        pixels = frame.to_ndarray(format="rgb24", interpolation=EXACT, threads=1)
    except Exception as error:  # as in _open
        raise MediaError("broken video", f"colours that nothing converts: {error!r}") from error
    return np.rot90(pixels, round(frame.rotation / 90)).astype(np.uint8, copy=False)


def _guarded(items: Iterable[ItemT]) -> Iterator[ItemT]:
    """The items, with whatever libav raises on hostile bytes as MediaError."""
    iterator = iter(items)
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except Exception as error:  # as in _open
            raise MediaError("broken video", repr(error)) from error
        yield item
