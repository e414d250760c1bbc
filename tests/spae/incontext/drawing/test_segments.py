"""Every word is drawn once, and sees what equation 11 lets it see."""

import itertools

import pytest

from spae.incontext.drawing import Decoding, waves

SIZES = (1, 4, 16, 64, 64)
DECODINGS = [
    Decoding(stride=stride, history=history, parallel_layers=parallel, parallel_stride=16)
    for stride, history, parallel in itertools.product((0, 1, 4, 100), (None, 0, 5), (0, 1, 2))
]


@pytest.mark.parametrize("known", [0, 2, 4])
@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
def test_all_words_are_drawn_once_and_see_only_what_is_drawn(decoding, known):
    drawn = sum(SIZES[:known])
    for wave in waves(SIZES, known, decoding):
        before = drawn
        for segment in wave:
            assert segment.start == drawn
            assert 0 <= segment.seen <= segment.seen_stop <= before
            drawn = segment.stop
    assert drawn == sum(SIZES)


def test_progressive_segments_see_all_or_the_last_words_before_them():
    cut = waves((1, 4, 16), 0, Decoding(stride=4, parallel_layers=0))
    assert [(s.start, s.stop, s.seen, s.seen_stop) for wave in cut for s in wave] == [
        (0, 1, 0, 0),
        (1, 5, 0, 1),
        (5, 9, 0, 5),
        (9, 13, 0, 9),
        (13, 17, 0, 13),
        (17, 21, 0, 17),
    ]
    short = waves((1, 4, 16), 0, Decoding(stride=4, parallel_layers=0, history=3))
    assert [wave[0].seen for wave in short] == [0, 0, 2, 6, 10, 14]


def test_parallel_segments_see_the_layers_before_theirs_and_no_condition():
    *progressive, last = waves((1, 4, 16), 0, Decoding(stride=2, parallel_layers=1, parallel_stride=8))
    assert [(s.start, s.stop, s.seen, s.seen_stop, s.conditioned) for s in last] == [
        (5, 13, 0, 5, False),
        (13, 21, 0, 5, False),
    ]
    assert all(segment.conditioned for wave in progressive for segment in wave)


def test_one_pass_is_one_segment():
    ((segment,),) = waves(SIZES, 0, Decoding(stride=0))
    assert (segment.start, segment.stop, segment.seen_stop, segment.conditioned) == (0, 149, 0, True)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="stride=-1"):
        Decoding(stride=-1)
    with pytest.raises(ValueError, match="at least one must be left"):
        waves((1, 4), 2, Decoding())
