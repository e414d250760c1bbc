import numpy as np
import torch

from spae.config import DataConfig
from spae.data.augmentation import augment, load_pictures
from spae.data.order import random_generator
from tests.videos import encoded, moving_digit


def test_augmentation_keeps_the_size_and_fills_nothing_in():
    config = DataConfig(crop_scale=(0.3, 1.0), flip=True, shift=3)
    picture = np.full((20, 30, 3), 77, np.uint8)
    for key in range(20):
        out = augment(picture, config, (16, 16), random_generator(0, 0, str(key)))
        assert out.shape == (16, 16, 3)
        assert (out == 77).all()


def test_no_augmentation_is_the_evaluation_view():
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    config = DataConfig(crop_scale=(1.0, 1.0), flip=False)
    assert np.array_equal(augment(picture, config, (16, 16), random_generator(0, 0, "a")), picture)


def test_all_frames_of_a_clip_have_one_crop():
    config = DataConfig(crop_scale=(0.3, 1.0), flip=True, shift=2)
    still = np.repeat(moving_digit(1)[0][None], 3, axis=0)
    frames = augment(still, config, (3, 16, 16), np.random.default_rng(0))
    assert frames.shape == (3, 16, 16, 3)
    assert (frames == frames[0]).all()
    assert (frames[0] == augment(still[0], config, (3, 16, 16), np.random.default_rng(0))).all()


def test_evaluation_takes_the_frames_in_the_middle():
    pixels = load_pictures([encoded(moving_digit(20))], (4, 64, 64))
    wanted = torch.from_numpy(np.stack(moving_digit(20)[8:12])).movedim(-1, 0)
    assert pixels.shape == (1, 3, 4, 64, 64)
    assert (pixels[0].int() - wanted.int()).abs().float().mean() < 4
