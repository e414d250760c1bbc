import numpy as np
import pytest

from jobs.demos.moving_digits import FRAMES, MOTIONS, TWO_DIGITS, MovingDigitsFlags, main, motion_of, videos
from spae.data.video import check_video


def flags(limit=12, **changes):
    return MovingDigitsFlags(output="", limit=limit, **changes)


def middle(pixels):
    """Where the light of a frame is, (x, y)."""
    light = pixels[..., 0].astype(float)
    return np.array([(light.sum(axis) * np.arange(32)).sum() / light.sum() for axis in (0, 1)])


def test_a_digit_goes_where_its_name_says():
    seen = set()
    for name, frames in videos("val", flags(40)):
        motion = name.split("/")[1].split("-")[0]
        first, last = middle(frames[0].pixels), middle(frames[-1].pixels)
        way, expected = last - first, np.array(MOTIONS[motion])
        if motion == "still":
            assert all(np.array_equal(frame.pixels, frames[0].pixels) for frame in frames)
        else:
            assert 3 < (way * expected).sum() < 12
            assert abs(way * (1 - abs(expected))).max() < 1.5
        seen.add(motion)
    assert seen == set(MOTIONS)


def test_its_way_is_the_same_forwards_and_backwards():
    """So that only the order of frames tells left from right: none of them lies further to one side on average."""
    sides = {"left": [], "right": []}
    for name, frames in videos("train", flags(150)):
        motion = name.split("/")[1].split("-")[0]
        if motion in sides and not name.startswith(TWO_DIGITS):
            sides[motion].append(np.mean([middle(frame.pixels)[0] for frame in frames]))
    left, right = (np.mean(places) for places in sides.values())
    assert abs(left - right) < 0.8


def test_the_same_seed_gives_the_same_videos_and_only_the_training_split_has_pairs():
    names = [name for name, _ in videos("train", flags())]
    assert names == [name for name, _ in videos("train", flags())]
    assert sum(name.startswith(TWO_DIGITS) for name in names) == 3
    assert not any(name.startswith(TWO_DIGITS) for name, _ in videos("test", flags()))
    assert names != [name for name, _ in videos("train", flags(seed=1))]


def test_files_are_real_videos_in_class_folders(tmp_path):
    assert main(["--output", str(tmp_path), "--limit", "4"]) == 0
    files = sorted((tmp_path / "test").rglob("*.mp4"))
    assert len(files) == 4
    header = check_video(files[0].read_bytes(), decode=True)
    assert (header.width, header.height, len(header.times), header.codec) == (32, 32, FRAMES, "h264")
    assert (tmp_path / "test" / TWO_DIGITS).is_dir(), "the labels of all splits agree"


def test_a_key_tells_the_motion():
    assert motion_of("seven_left-digit-0012") == "left"
    with pytest.raises(ValueError, match="no sample of one moving digit"):
        motion_of("digit-0012")
