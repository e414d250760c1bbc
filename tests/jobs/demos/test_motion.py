import dataclasses

import pytest
import torch

from jobs.demos.motion import MotionProbe, MovingDigits, psnr_by_words, read_moving_digits, shuffled_frames
from jobs.demos.moving_digits import MovingDigitsFlags, videos
from spae.data.mp4 import encode_mp4
from spae.model import SPAE
from spae.presets import PRESETS
from tests import tiny_shards, tiny_spae

VIDEO = dataclasses.replace(
    tiny_spae.CONFIG, input_size=(8, 16, 16), grids=((1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 4, 4), (2, 4, 4))
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SPAE(VIDEO, tiny_spae.vocabulary()).eval()


def clips(motion, count, generator):
    """A bright block that crosses dark noise."""
    pixels = torch.randint(0, 40, (count, 3, 8, 16, 16), generator=generator).byte()
    for frame in range(8):
        place = {"left": 10 - frame, "right": 3 + frame, "still": 6}[motion]
        pixels[:, :, frame, 6:10, place : place + 4] = 250
    return pixels


def moving(model, seed, count=40):
    generator = torch.Generator().manual_seed(seed)
    motions = ("left", "right", "still")
    pixels = torch.cat([clips(motion, count, generator) for motion in motions])
    return MovingDigits(pixels, model.encode(pixels), tuple(motion for motion in motions for _ in range(count)))


def test_shuffling_changes_the_order_alone(model):
    pixels = moving(model, 0, 4).pixels
    shuffled = shuffled_frames(pixels)
    assert not torch.equal(shuffled, pixels)
    assert torch.equal(shuffled, shuffled_frames(pixels))
    light = pixels.float().flatten(3).sum(-1).sum(1)
    assert torch.equal(shuffled.float().flatten(3).sum(-1).sum(1).sort(1).values, light.sort(1).values)


def test_the_probe_tells_directions_by_the_words_and_cannot_where_frames_are_shuffled(model):
    probe, held_out = MotionProbe(model, 4).fit(moving(model, 0)), moving(model, 1)
    ordered = probe.score(held_out.pyramid, held_out.motions)
    assert ordered["direction"].share > 0.95
    assert ordered["direction"].samples == 80
    shuffled = probe.score(model.encode(shuffled_frames(held_out.pixels)), held_out.motions)
    assert 0.3 < shuffled["direction"].share < 0.7


def test_an_image_model_takes_as_many_words_as_the_clip_has_frames(model):
    pixels = moving(model, 0, 2).pixels
    image = psnr_by_words(tiny_spae.model(), pixels)
    assert [row["words"] for row in image] == [8 * count for count in (1, 5, 21, 37)]
    video = psnr_by_words(model, pixels)
    assert [row["words"] for row in video] == [1, 5, 21, 53, 85]
    rebuilt = model.decode(model.encode(pixels))
    error = (rebuilt.double() - pixels.double() / 255).square().mean()
    assert video[-1]["psnr"] == pytest.approx(float(-10 * error.log10()), abs=1e-4)


def test_clips_of_two_digits_are_left_out(tmp_path):
    words = tiny_spae.vocabulary()
    config = dataclasses.replace(PRESETS["digits-video"].model, embedding_width=words.width)
    made = list(videos("train", MovingDigitsFlags(output="", limit=4)))
    rows = [(name[:-4].replace("/", "_"), encode_mp4(frames, rate=12.5, crf=10), 0) for name, frames in made]
    split = tiny_shards.write_split(tmp_path, [rows], suffix="mp4")
    digits = read_moving_digits(SPAE(config, words).eval(), split)
    assert (len(made), len(digits.motions), len(digits.pyramid)) == (5, 4, 4)
