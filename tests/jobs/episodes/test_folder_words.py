import os

import numpy as np
import pytest
import torch

from jobs.episodes.folder_words import FolderWords
from spae.data.media import MediaError, encode_png, fit_image
from spae.incontext.text import WordText
from tests.photographs import photographs
from tests.tiny_spae import model


@pytest.fixture(scope="module")
def tiny_model():
    return model()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    (root / "inside").mkdir()
    for number, picture in enumerate(photographs()):
        (root / "inside" / f"{number}.png").write_bytes(encode_png(fit_image(picture, (40, 48))))
    (root / "broken.png").write_bytes((root / "inside" / "0.png").read_bytes()[:300])
    (root.parent / "outside.png").write_bytes((root / "inside" / "0.png").read_bytes())
    return root


def test_words_are_those_of_encode_whoever_else_is_asked(tiny_model, data):
    words = FolderWords(tiny_model, str(data), 2)
    names = [f"inside/{number}.png" for number in (2, 0, 1, 0)]
    read = words.read(names, 2)
    assert read == words.read(names, 2) == [FolderWords(tiny_model, str(data), 2).read([name], 2)[0] for name in names]
    pictures = [fit_image(picture, (40, 48)) for picture in photographs()]
    for name, text in zip(names, read, strict=True):
        pixels = fit_image(pictures[int(name[7])], tiny_model.config.input_size)
        ids = tiny_model.encode(_two(pixels)).flatten(2)[0].tolist()
        assert text == WordText(tiny_model.vocabulary).write(ids)
    assert all(len(text.split()) == 5 for text in read)
    assert len(words.read(names[:1], 3)[0].split()) == 21
    with pytest.raises(ValueError, match="layers=5"):
        words.read(names, 5)


def _two(pixels):
    """The picture in a batch as `FolderWords` fills it up."""
    return torch.from_numpy(np.stack([pixels, np.zeros_like(pixels)])).permute(0, 3, 1, 2)


def test_a_picture_is_encoded_once(tiny_model, data):
    words = FolderWords(tiny_model, str(data), 2)
    (data / "once.png").write_bytes((data / "inside" / "1.png").read_bytes())
    before = words.read(["once.png"], 1)
    os.remove(data / "once.png")
    assert words.read(["once.png"], 1) == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../outside.png", "not below the data's folder"),
        ("inside/../../outside.png", "not below the data's folder"),
        ("inside\\..\\0.png", "not below the data's folder"),
        ("", "not below the data's folder"),
        ("missing.png", "cannot be read"),
        ("inside", "cannot be read"),
        ("nul\0.png", "cannot be read"),
        ("x" * 5000, "cannot be read"),
        ("file://inside/0.png", "cannot be read"),
        ("broken.png", "broken PNG"),
    ],
)
def test_what_cannot_be_read_has_a_reason_and_costs_nothing_else(tiny_model, data, name, reason):
    error, text = FolderWords(tiny_model, str(data), 2).read([name, "inside/0.png"], 1)
    assert isinstance(error, MediaError)
    assert reason in str(error)
    assert text.startswith("word")
    absolute = FolderWords(tiny_model, str(data), 2).read([str(data / "inside" / "0.png")], 1)
    assert "not below" in str(absolute[0])
