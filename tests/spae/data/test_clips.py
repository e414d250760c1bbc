"""Clips and frames at a model's size, against a full decode."""

import numpy as np
import pytest

from spae.data.clips import fitted_clips
from spae.data.media import MediaError, fit_image
from spae.data.video import read_frames
from tests.videos import FORMATS, encoded, panned


@pytest.fixture(scope="module")
def data():
    return encoded(panned(12), rotation=90)


def frames(data):
    return np.stack([fit_image(frame.pixels, (16, 32)) for frame in read_frames(data)])


@pytest.mark.parametrize(("clips", "firsts"), [(1, [4]), (2, [0, 7]), (3, [0, 4, 7]), (8, range(8))])
def test_clips_are_evenly_spaced_and_no_two_the_same(data, clips, firsts):
    expected, made = frames(data), fitted_clips(data, (3, 16, 32), clips, 2)
    assert len(made) == clips
    for clip, first in zip(made, firsts, strict=True):
        assert np.array_equal(clip, expected[first : first + 5 : 2])


def test_frames_are_clips_without_an_axis_of_time(data):
    expected = frames(data)
    assert np.array_equal(np.stack(fitted_clips(data, (16, 32), 12)), expected)
    (middle,) = fitted_clips(data, (16, 32), 1)
    assert np.array_equal(middle, expected[6])


@pytest.mark.parametrize("name", FORMATS)
def test_frames_of_any_format_are_those_of_a_full_decode(name):
    video = encoded(panned(9), *FORMATS[name])
    assert np.array_equal(np.stack(fitted_clips(video, (16, 32), 3)), frames(video)[[0, 4, 8]])


def test_a_video_that_is_too_short_says_how_long_it_should_be(data):
    with pytest.raises(MediaError, match="too short: 12 of 13 frames"):
        fitted_clips(data, (16, 32), 13)
    with pytest.raises(MediaError, match="too short: 12 of 13 frames"):
        fitted_clips(data, (3, 16, 32), 1, stride=6)
