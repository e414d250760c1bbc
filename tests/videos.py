"""Real videos: a camera that pans and zooms over photographs, digits that move; encoded by real encoders."""

import io
import random
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from PIL import Image

from spae.data.sources.digits import DigitsSource
from spae.data.video import Frame
from tests.photographs import photographs

Pixels = np.ndarray


FORMATS = {
    "H.264 in mp4": ("mp4", "libx264", "yuv420p"),
    "H.264 of 4:4:4 and 10 bits": ("matroska", "libx264", "yuv444p10le"),
    "H.264 of RGB": ("mov", "libx264rgb", "rgb24"),
    "H.264 in avi": ("avi", "libx264", "yuv420p"),
    "VP9": ("webm", "libvpx-vp9", "yuv420p"),
    "VP8": ("webm", "libvpx", "yuv420p"),
    "AV1": ("mp4", "libsvtav1", "yuv420p"),
    "MPEG-4 in avi": ("avi", "mpeg4", "yuv420p"),
    "MPEG-2": ("mpeg", "mpeg2video", "yuv420p"),
    "transport stream": ("mpegts", "libx264", "yuv420p"),
    "uncompressed": ("avi", "rawvideo", "bgr24"),
}


@cache
def panned(count: int, height: int = 48, width: int = 64, photograph: int = 0) -> tuple[Pixels, ...]:
    """uint8 (height, width, 3) frames of a camera that moves over a photograph and comes nearer."""
    picture = Image.fromarray(photographs()[photograph])
    frames = []
    for number in range(count):
        share = 0.7 - 0.3 * number / count
        left, top = (number / count * 0.25 * side for side in picture.size)
        box = (left, top, left + share * picture.width, top + share * picture.height)
        frames.append(np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box=box)))
    return tuple(frames)


@cache
def moving_digit(count: int, digit: int = 0, side: int = 64) -> tuple[Pixels, ...]:
    """uint8 (side, side, 3) frames of a real digit that crosses a grey field."""
    source = DigitsSource("val", 0)
    entry = list(source.entries())[digit]
    image = Image.open(io.BytesIO(source.read(entry, 1 << 20))).convert("RGB")
    frames = []
    for number in range(count):
        field = Image.new("RGB", (side, side), (90, 90, 90))
        field.paste(image, ((side - 32) * number // count, (side - 32) * number // (2 * count)))
        frames.append(np.asarray(field))
    return tuple(frames)


def frames_of(pixels: Sequence[Pixels], rate: float = 25) -> list[Frame]:
    """The pictures at a constant rate."""
    return [Frame(number / rate, picture) for number, picture in enumerate(pixels)]


def encoded(
    frames: Sequence[Pixels],
    container: str = "mp4",
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    milliseconds: Sequence[int] | None = None,
    rotation: int = 0,
    audio: bool = False,
) -> bytes:
    """The frames as a file of 25 frames a second, or of frames at their own times."""
    sink = io.BytesIO()
    with av.open(sink, "w", format=container) as file:
        stream = file.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        if rotation:
            stream.set_display_rotation(rotation)
        if milliseconds:
            stream.codec_context.time_base = Fraction(1, 1000)
        sound = file.add_stream("aac", rate=16000, layout="mono") if audio else None
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
            if milliseconds:
                frame.pts, frame.time_base = milliseconds[number], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        if sound:
            _mux_tone(file, sound, len(frames) / 25)
    return sink.getvalue()


def mutated(data: bytes, generator: random.Random) -> bytes:
    """The bytes with some of them changed, cut, doubled or lost."""
    changed = bytearray(data)
    for _ in range(generator.choice([1, 1, 2, 4, 16])):
        place, kind = generator.randrange(len(changed)), generator.random()
        if kind < 0.6:
            changed[place] = generator.randrange(256)
        elif kind < 0.75:
            changed[place : place + 4] = generator.choice([b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff"])
        elif kind < 0.85:
            del changed[max(place, 1) : place + generator.randrange(1, 40)]
        elif kind < 0.95:
            changed[place:place] = changed[place : place + generator.randrange(200)]
        else:
            del changed[max(place, 1) :]
    return bytes(changed)


def tone() -> bytes:
    """A file with sound only."""
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as file:
        _mux_tone(file, file.add_stream("aac", rate=16000, layout="mono"), 0.5)
    return sink.getvalue()


def _mux_tone(file, stream, seconds: float) -> None:
    samples = np.sin(np.arange(int(16000 * seconds)) / 20).astype(np.float32)[None]
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 16000, 0
    file.mux(stream.encode(frame))
    file.mux(stream.encode())


KINETICS_HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"


def kinetics(root: Path, clips: int = 6, frames: int = 30) -> tuple[Path, Path]:
    """(folder, table): Kinetics-600 with so many clips in two classes, of which one more is missing."""
    labels = ("riding a bike", "tap dancing")
    rows = []
    for number in range(clips + 1):
        label, video = labels[number % 2], f"-a_{number:08d}"
        start = 10 * number
        rows.append(f"{label},{video},{start},{start + 10},train,0\n")
        if number == clips:
            continue
        path = root / "clips" / label.replace(" ", "_") / f"{video}_{start:06d}_{start + 10:06d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = panned(frames, photograph=number % 3) if number % 2 else moving_digit(frames, number)
        path.write_bytes(encoded(pixels, audio=number == 1))
    rows.append("tap dancing,zzzzzzzzzzz,3,13,val,0\n")
    (root / "train.csv").write_text(KINETICS_HEADER + "".join(rows))
    return root / "clips", root / "train.csv"
