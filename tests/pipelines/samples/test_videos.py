import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.samples.cut import SAME_TIME, Cut
from pipelines.samples.videos import VideoSamples
from spae.data.media import MediaError
from spae.data.mp4 import encode_mp4
from spae.data.records import check_key
from spae.data.sources import Entry
from spae.data.video import Frame, VideoHeader, check_video, read_frames
from tests.videos import FORMATS, encoded, frames_of, mutated, panned


class OneFile:
    def __init__(self, data):
        self.data = data

    def read(self, entry, limit):
        return self.data[:limit]


def made(data, **settings):
    return VideoSamples(**settings).media(OneFile(data), Entry("key", "path"))


def header_of(times):
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 25.0
    return VideoHeader("mp4", "h264", 64, 48, tuple(times), rate, False)


steps = st.lists(st.integers(5, 400), min_size=1, max_size=60)
places = st.fractions(0, 1, max_denominator=50)


@given(steps, st.integers(1, 12), st.integers(1, 6), places)
def test_a_stride_takes_frames_at_equal_distances_inside_the_video(milliseconds, frames, stride, place):
    times = list(np.cumsum(milliseconds) / 1000)
    cut = Cut(frames, None, stride)
    if len(times) < (frames - 1) * stride + 1:
        with pytest.raises(MediaError, match="too short"):
            cut.times(header_of(times), place)
        return
    indices = [times.index(time) for time in cut.times(header_of(times), place)]
    assert np.diff(indices).tolist() == [stride] * (frames - 1)
    first, last = indices[0], len(times) - 1 - indices[-1]
    assert abs(first - place * (first + last)) < 1


@given(steps, st.integers(1, 12), st.floats(1, 100), places)
def test_a_rate_takes_the_frame_that_is_shown_at_each_moment(milliseconds, frames, rate, place):
    times = list(np.cumsum(milliseconds) / 1000)
    header, cut = header_of(times), Cut(frames, rate, 1)
    free = header.duration - frames / rate
    if free < -SAME_TIME:
        with pytest.raises(MediaError, match="too short"):
            cut.times(header, place)
        return
    chosen = cut.times(header, place)
    assert len(chosen) == frames
    for number, time in enumerate(chosen):
        moment = times[0] + max(free, 0) * float(place) + number / rate
        after = [later for later in times if later > time]
        assert time <= moment + 2 * SAME_TIME
        assert not after or after[0] > moment - SAME_TIME


def test_more_frames_than_there_are_repeat_some():
    times = Cut(8, 50.0, 1).times(header_of([0.0, 0.04, 0.08, 0.12]), Fraction(0))
    assert times == [0.0, 0.0, 0.04, 0.04, 0.08, 0.08, 0.12, 0.12]


def test_a_frame_that_is_not_there_is_missed():
    data = encoded(panned(4), milliseconds=[0, 100, 200, 400])
    cut, header = Cut(3, None, 1), header_of([0.0, 0.1, 0.2, 0.3])
    assert [frame.time for frame in cut.clip(data, header, [0.0, 0.1, 0.1, 0.2])] == pytest.approx([0, 0.1, 0.2, 0.3])
    with pytest.raises(MediaError, match=r"no frame at 0\.300 s"):
        list(cut.clip(data, header, [0.1, 0.2, 0.3]))


def test_clips_are_inputs_with_keys_of_their_own():
    entry = Entry("x" * 90, "path", 3, 1000)
    (same,) = VideoSamples(frames=16).inputs(entry)
    assert same == entry
    inputs = list(VideoSamples(frames=16, clips=100).inputs(entry))
    assert len({check_key(clip.key) for clip in inputs}) == 100
    assert [clip.offset for clip in inputs] == list(range(100))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_becomes_a_clip(name):
    data = encoded(panned(20), *FORMATS[name])
    media = made(data, frames=8, size=32)
    assert [frame.pixels.shape for frame in read_frames(media.data)] == [(32, 32, 3)] * 8
    whole = made(data)
    assert len(check_video(whole.data).times) == whole.metadata["frames"] == 20
    assert (whole.data == data) == check_video(data).is_stored


def test_an_encoder_that_gives_other_pictures_is_caught(monkeypatch):
    def blind(frames, rate, crf):
        return encode_mp4([Frame(frame.time, 255 - frame.pixels) for frame in frames], rate=rate, crf=crf)

    monkeypatch.setattr("pipelines.samples.videos.encode_mp4", blind)
    with pytest.raises(MediaError, match="encoding differs"):
        made(encoded(panned(8)), frames=4)


def test_the_worst_quality_of_a_noisy_clip_still_passes():
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    assert made(encode_mp4(frames_of(noise), rate=25, crf=0), frames=4, crf=51).metadata["frames"] == 4


def test_mutations_never_crash_the_maker():
    generator = random.Random(1)
    seeds = [encoded(panned(8), *FORMATS[name]) for name in ("H.264 in mp4", "VP9", "MPEG-4 in avi", "MPEG-2")]
    outcomes = set()
    for number in range(300):
        data = mutated(seeds[number % len(seeds)], generator)
        settings = {"size": 16, "crop": False} if number % 8 < 4 else {"frames": 4, "rate": 12.5}
        try:
            outcomes.add(made(data, **settings).suffix)
        except MediaError as error:
            outcomes.add(error.reason)
    assert "mp4" in outcomes
    assert len(outcomes) > 3
