import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.reporting.clips import clip_rows, moving_picture, strip_png
from spae.model import SPAE
from tests import tiny_spae


@pytest.fixture(scope="module")
def rows():
    """Of two clips of eight frames: themselves, and what two and four layers give."""
    grids = ((1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 4, 4))
    model = SPAE(dataclasses.replace(tiny_spae.CONFIG, input_size=(8, 16, 16), grids=grids), tiny_spae.vocabulary())
    clips = torch.randint(0, 256, (2, 3, 8, 16, 16), dtype=torch.uint8)
    made = clip_rows(model.eval(), clips, (2, 4))
    assert np.array_equal(made[:, 0], clips.movedim(1, -1).numpy())
    assert not np.array_equal(made[:, 1], made[:, 2])
    return made


def test_frames_stand_in_a_strip_below_the_original(rows):
    sheet = np.asarray(Image.open(io.BytesIO(strip_png(rows, scale=2))))[::2, ::2]
    assert sheet.shape == (2 * 3 * 18, 8 * 17, 3)
    assert np.array_equal(sheet[:16, 17:33], rows[0, 0, 1]), "the second frame of the first clip"
    assert np.array_equal(sheet[5 * 18 : 5 * 18 + 16, 7 * 17 : 7 * 17 + 16], rows[1, 2, 7]), "the last, all layers"


def test_a_picture_that_moves_holds_every_frame(rows):
    picture = Image.open(io.BytesIO(moving_picture(rows, rate=12.5, scale=1)))
    assert (picture.n_frames, picture.size) == (8, (2 * 18, 3 * 18))
    assert picture.info["duration"] == 80
    picture.seek(5)
    assert np.array_equal(np.asarray(picture.convert("RGB"))[18:34, 18:34], rows[1, 1, 5])
