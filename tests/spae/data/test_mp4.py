import subprocess
import sys

import numpy as np
import pytest

from spae.data.media import MediaError
from spae.data.mp4 import encode_mp4
from spae.data.video import Frame, check_video, read_frames
from tests.videos import frames_of, moving_digit, panned


def difference(frames, pixels):
    return np.mean([np.abs(a.pixels.astype(int) - b).mean() for a, b in zip(frames, pixels, strict=True)])


def test_encoding_keeps_the_pixels_and_drops_an_odd_line():
    pixels = [picture[:47, :63] for picture in panned(12)]
    data = encode_mp4(frames_of(pixels), rate=25, crf=10)
    header = check_video(data)
    assert (header.container, header.codec, header.is_stored) == ("mp4", "h264", True)
    assert (header.height, header.width, len(header.times)) == (46, 62, 12)
    assert difference(read_frames(data), [picture[:46, :62] for picture in pixels]) < 6
    with pytest.raises(MediaError, match="too small: 9 x 1"):
        encode_mp4([Frame(0.0, np.zeros((1, 9, 3), np.uint8))], rate=25, crf=18)


@pytest.mark.parametrize("rate", [24, 25, 30, 30000 / 1001, 60, 7.3])
def test_times_survive_the_encoder(rate):
    header = check_video(encode_mp4(frames_of(moving_digit(9), rate), rate=rate, crf=30))
    assert header.times == pytest.approx([number / rate for number in range(9)], abs=1e-5)
    assert header.frames_per_second == pytest.approx(rate, rel=1e-4)


def test_one_frame_lasts_as_its_rate_says():
    for rate in (0.5, 5, 25, 30000 / 1001):
        header = check_video(encode_mp4(frames_of(panned(1)), rate=rate, crf=30))
        assert header.duration == pytest.approx(1 / rate, rel=1e-4)


def test_plain_colours_stay_what_they_are():
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:16], picture[16:] = (255, 0, 0), (0, 128, 255)
    (frame,) = read_frames(encode_mp4([Frame(0.0, picture)], rate=25, crf=18))
    assert np.abs(frame.pixels[[4, 28]].astype(int) - picture[[4, 28]]).max() <= 4


WAVES = """
import hashlib, numpy as np
from spae.data.video import Frame
from spae.data.mp4 import encode_mp4
grid = np.add.outer(np.arange(48) * 5, np.arange(64) * 3)
pictures = [np.stack([grid + 9 * k, grid // 2, 255 - k * 8 + grid * 0], axis=-1).astype(np.uint8) for k in range(20)]
frames = [Frame(number / 25, picture) for number, picture in enumerate(pictures)]
digest = hashlib.sha256(encode_mp4(frames, rate=25, crf=18)).hexdigest()
"""


def test_the_same_frames_give_the_same_bytes_in_any_process():
    here, again = {}, {}
    exec(WAVES, here)
    exec(WAVES, again)
    assert here["digest"] == again["digest"]
    run = subprocess.run([sys.executable, "-c", WAVES + "print(digest)"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == here["digest"]


def test_frames_too_close_or_too_far_are_no_video():
    picture = np.zeros((16, 16, 3), np.uint8)
    for time in (1e-6, 1e5):
        with pytest.raises(MediaError, match="no time for a frame"):
            encode_mp4([Frame(0.0, picture), Frame(time, picture)], rate=25, crf=18)
    with pytest.raises(MediaError, match="cannot be encoded"):
        encode_mp4([Frame(0.0, np.zeros((2, 40_000, 3), np.uint8))], rate=25, crf=18)
