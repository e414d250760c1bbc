import pytest
import torch

from spae.evaluation.codecs import rebuild
from tests.photographs import crops


@pytest.fixture(scope="module")
def originals():
    return crops(64, 3)


def error(one, other):
    return float((one.double() - other.double()).square().mean())


@pytest.mark.parametrize("name", ["jpeg", "webp", "bicubic"])
def test_more_words_buy_better_pictures_within_their_bits(name, originals):
    found = [rebuild(name, originals, words, 65536) for words in (600, 1200, 3000)]
    errors = [error(pictures, originals) for pictures, _ in found]
    assert errors[0] > errors[1] > errors[2]
    for (pictures, bits), words in zip(found, (600, 1200, 3000), strict=True):
        assert pictures.shape == originals.shape
        assert bits <= 9 * words * 16


def test_a_file_that_does_not_fit_is_at_its_lowest_quality_and_tells_its_bits(originals):
    one, bits = rebuild("jpeg", originals[:1], 1, 2)
    assert bits > 8 * 100
    assert torch.equal(one, rebuild("jpeg", originals[:1], 2, 2)[0])


def test_as_many_values_as_pixels_are_the_picture_itself(originals):
    pictures, bits = rebuild("bicubic", originals, 3 * 64 * 64, 2)
    assert torch.equal(pictures, originals)
    assert bits == 9 * 24 * 64 * 64
    assert rebuild("bicubic", originals[:1], 1, 2)[1] == 24
