"""Clips cut from videos with every check, against a bare loop that decodes as many frames and encodes the clip.

python -m tests.benchmarks.bench_videos
"""

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np

from pipelines.samples.videos import VideoSamples
from spae.data.media import fit_image
from spae.data.sources import Entry
from tests.benchmarks.bench import Contestant, print_table, timed, write_json
from tests.videos import encoded, panned


@dataclass(frozen=True)
class Memory:
    """A source of one video."""

    data: bytes

    def read(self, entry: Entry, limit: int) -> bytes:
        """The video."""
        return self.data[:limit]


def bare(data: bytes, frames: int, size: int) -> bytes:
    """The centre clip with nothing checked and the encoder's defaults, one thread each."""
    sink = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(sink, "w", format="mp4") as target:
        video = source.streams.video[0]
        video.codec_context.thread_count = 1
        stream = target.add_stream("libx264", rate=25, options={"crf": "18", "x264-params": "threads=1"})
        stream.width = stream.height = size
        first = (video.frames - frames) // 2
        for number, frame in enumerate(source.decode(video)):
            if number >= first + frames:
                break
            if number >= first:
                pixels = fit_image(frame.to_ndarray(format="rgb24", threads=1), (size, size))
                target.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))))
        target.mux(stream.encode())
    return sink.getvalue()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", default="runs/bench/videos.json")
    options = parser.parse_args(argv)
    data = encoded(panned(25 * options.seconds, 256, 340))

    def ours(maker: VideoSamples) -> Callable[[], object]:
        return lambda: maker.media(Memory(data), Entry("key", "path"))

    runs = {
        "bare loop": lambda: bare(data, options.frames, options.size),
        "spae, a clip": ours(VideoSamples(frames=options.frames, size=options.size)),
        "spae, whole, header": ours(VideoSamples()),
        "spae, whole, decode": ours(VideoSamples(check="decode")),
    }
    rows = timed({name: Contestant(run) for name, run in runs.items()}, options.rounds)
    title = f"{options.frames} frames of {options.size} pixels from {options.seconds} s of 340 x 256, {len(data)} bytes"
    print_table(title, rows, "clips")
    write_json(options.output, title, rows, **vars(options))


if __name__ == "__main__":
    main()
