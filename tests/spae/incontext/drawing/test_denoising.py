"""Pairs of damaged and whole pictures, their words exchanged alike on both sides."""

import numpy as np
import pytest

from spae.incontext.drawing import Denoising
from spae.incontext.drawing.damage import DAMAGES, RATES, damaged, exchanged
from spae.incontext.text import WordText
from tests import tiny_spae

WRITER = WordText(tiny_spae.vocabulary())


class Pictures:
    """Twenty of noise."""

    def __init__(self, name):
        draw = np.random.default_rng(len(name))
        self.pixels = {f"{name}-{n}": draw.integers(0, 256, (16, 16, 3), dtype=np.uint8) for n in range(20)}
        self.keys = list(self.pixels)

    def read(self, keys):
        return np.stack([self.pixels[key] for key in keys])


def encode(pixels):
    """Ten words that follow from some pixels."""
    return pixels[:, :10, :10, 0].diagonal(axis1=1, axis2=2).astype(np.int32) % len(WRITER.words)


def task(**flags):
    values = {"support": Pictures("train"), "scored": Pictures("te"), "kept": 3, "label": {}}
    return Denoising(encode=encode, writer=WRITER, **{**values, **flags})


def test_the_rates_are_the_published_ones():
    assert RATES == (0.5, 0.47, 0.44, 0.41, 0.38, 0.35, 0.32, 0.29, 0.26, 0.23)


def test_words_are_exchanged_at_the_same_places_for_the_same_others():
    before, after = tuple(range(10)), tuple(range(20, 30))
    for seed in range(20):
        one, other = exchanged((before, after), 0.5, 3, 5, np.random.default_rng(seed))
        assert one[:3] == before[:3]
        assert other[:3] == after[:3]
        changed = [place for place in range(10) if other[place] != after[place]]
        assert len(changed) == 3
        assert all(one[place] == other[place] < 5 for place in changed)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_keeps_the_size_and_changes_something(name):
    pixels = Pictures("x").read(["x-0", "x-1"])
    changed = damaged(name, pixels)
    assert (changed.shape, changed.dtype) == (pixels.shape, np.uint8)
    assert (changed != pixels).any()
    assert (damaged(name, pixels[:1]) == changed[:1]).all()


def test_damages_do_what_they_say():
    pixels = Pictures("x").read(["x-0"])
    assert (damaged("rotation", damaged("rotation", pixels)) == pixels[:, ::-1, ::-1]).all()
    assert (damaged("outpainting", pixels)[:, :8] == pixels[:, :8]).all()
    assert (damaged("shift", pixels)[:, 2:, 2:] == pixels[:, :-2, :-2]).all()
    assert np.ptp(damaged("colourisation", pixels), axis=-1).max() == 0
    flat = np.full((1, 16, 16, 3), 77, np.uint8)
    for name in ("deblurring", "super-resolution", "shift", "rotation", "colourisation"):
        assert (damaged(name, flat) == flat).all()


def test_an_episode_asks_for_clean_pictures_by_other_ones():
    episode = task().episode("rotation", 2)
    assert len(episode.examples) == 10
    assert not set(episode.support_keys) & {query.key for query in episode.queries}
    query = episode.queries[0]
    pixels = task().scored.read([query.key])
    assert query.ids == tuple(encode(pixels)[0].tolist())
    assert query.condition == WRITER.write(encode(damaged("rotation", pixels))[0].tolist())
    clean = [tuple(encode(task().support.read([key]))[0].tolist()) for key in episode.support_keys]
    wrong = [
        sum(a != b for a, b in zip(one.ids, ids, strict=True)) for one, ids in zip(episode.examples, clean, strict=True)
    ]
    assert 0 < sum(wrong) <= sum(int(rate * 7) for rate in RATES)


def test_with_the_same_picture_all_pairs_are_of_the_query():
    episode = task(known=3).episode("shift-same-picture", 0)
    (query,) = episode.queries
    assert episode.support_keys == (query.key,)
    assert {example.ids[:3] for example in episode.examples} == {query.ids[:3]}
    assert query.known == query.ids[:3]


def test_what_cannot_be_asked_is_named():
    with pytest.raises(ValueError, match="setting 'dirt' is none of outpainting"):
        task().episode("dirt", 0)
    few = Pictures("train")
    few.keys = few.keys[:4]
    with pytest.raises(ValueError, match="4 pictures are too few for 10 pairs"):
        task(support=few).episode("shift", 0)
