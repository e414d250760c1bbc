"""Which frames of a video a clip takes, and the clip of them."""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from spae.data.media import MediaError
from spae.data.video import Frame, VideoHeader, read_frames

SAME_TIME = 1e-4
"""Seconds within which two times are one: more than sums of floats err, far less than a frame lasts."""


@dataclass(frozen=True)
class Cut:
    """So many frames, each `stride`-th of the video or, by their times, `rate` a second."""

    frames: int
    rate: float | None
    stride: int

    def times(self, header: VideoHeader, place: Fraction) -> list[float]:
        """The times of the video's frames that a clip takes; `place` is 0 for the first clip there is, 1 for the last.

        A rate above the video's takes frames twice. MediaError where the video is too short.
        """
        times = header.times
        if self.rate is None:
            free = len(times) - (self.frames - 1) * self.stride - 1
            chosen = [int(free * place) + number * self.stride for number in range(self.frames)]
            fits = free >= 0
        else:
            seconds = header.duration - self.frames / self.rate
            begin = times[0] + max(seconds, 0.0) * float(place) + SAME_TIME
            chosen = [bisect.bisect_right(times, begin + number / self.rate) - 1 for number in range(self.frames)]
            fits = seconds > -SAME_TIME
        if not fits:
            raise MediaError("too short", f"{len(times)} frames, {header.duration:.3f} s")
        return [times[index] for index in chosen]

    def rate_of(self, header: VideoHeader) -> float:
        """Frames a second of the clip, the same between all of its frames."""
        return self.rate or header.frames_per_second / self.stride

    def clip(self, data: bytes, header: VideoHeader, times: Sequence[float]) -> Iterator[Frame]:
        """The frames of a video at these times, at a constant rate from 0; MediaError where one was not decoded."""
        number, near = 0, 0.5 / header.frames_per_second

        def wanted(time: float) -> bool:
            return times[number] - SAME_TIME < time < times[number] + near

        for frame in read_frames(data, wanted=wanted):
            while number < len(times) and wanted(frame.time):
                yield Frame(number / self.rate_of(header), frame.pixels)
                number += 1
            if number == len(times):
                return
        raise MediaError("broken video", f"no frame at {times[number]:.3f} s")
