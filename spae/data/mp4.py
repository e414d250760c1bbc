"""Frames to mp4, by PyAV: the one encoder, whose bytes depend on the frames alone."""

import io
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from spae.data.media import MediaError
from spae.data.video import EXACT, Frame

TICKS = 90_000
"""Time base of what is encoded; frames of 24, 25, 30 and 30000/1001 a second last whole ticks."""
MOST_TICKS = 1 << 31
"""Six hours: what lies beyond is a mistake, and overflows in some readers."""
KEYFRAME_INTERVAL = 32
"""Frames; a reader that wants one frame decodes half as many on average."""


def encode_mp4(frames: Iterable[Frame], *, rate: float, crf: int) -> bytes:
    """Frames as mp4: H.264, yuv420p, no audio; an odd side loses its last row or column.

    One thread and none of the shortcuts that depend on the processor: the same frames give the same bytes with one
    version of the encoder. `rate`, in frames a second, says how long the last frame is shown; the others have their
    times. `crf` is the quality, 0 to 51, less is better.
    """
    sink = io.BytesIO()
    stream: VideoStream | None = None
    start, last = 0.0, -1
    with av.open(sink, "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        for frame in frames:
            picture = _picture(frame.pixels)
            if stream is None:
                stream, start = _h264_stream(container, picture, rate, crf), frame.time
            ticks = round((frame.time - start) * TICKS)
            if not last < ticks < MOST_TICKS:
                raise MediaError("broken video", f"no time for a frame: {frame.time - start} s after the first")
            picture.pts, picture.time_base, last = ticks, Fraction(1, TICKS), ticks
            try:
                container.mux(stream.encode(picture))
            except av.FFmpegError as error:  # such as sides that H.264 does not know
                raise MediaError("cannot be encoded", repr(error)) from error
        if stream is None:
            raise ValueError("a clip needs at least one frame")
        container.mux(stream.encode())
    return sink.getvalue()


def _picture(pixels: NDArray[np.uint8]) -> VideoFrame:
    height, width = (side // 2 * 2 for side in pixels.shape[:2])
    if not height or not width:
        raise MediaError("too small", f"{pixels.shape[1]} x {pixels.shape[0]}")
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]))
    return frame.reformat(
        format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG", interpolation=EXACT, threads=1
    )


def _h264_stream(container: Any, picture: VideoFrame, rate: float, crf: int) -> VideoStream:
    exact = "threads=1:cpu-independent=1:bframes=0:scenecut=0:colormatrix=smpte170m"
    options = {"preset": "medium", "crf": str(crf), "x264-params": f"{exact}:keyint={KEYFRAME_INTERVAL}"}
    fraction = Fraction(min(max(rate, 1e-3), 1e3)).limit_denominator(1001)  # 30000/1001 is one of those in use
    stream: VideoStream = container.add_stream("libx264", rate=fraction, options=options)
    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
    stream.codec_context.time_base = Fraction(1, TICKS)
    stream.codec_context.thread_count = 1
    return stream
