import dataclasses

import pytest

from spae.incontext.text import WordText, bare, one_line
from spae.vocabulary.record import RoundTripRecord
from tests import tiny_spae


def vocabulary(separator: str):
    record = RoundTripRecord(separator=separator, start="", words=40, lost=())
    plain = tiny_spae.vocabulary()
    return dataclasses.replace(plain, record=dataclasses.replace(plain.record, round_trip=record))


@pytest.mark.parametrize("separator", [" ", ", ", "\n", " | ", ","])
def test_words_survive_their_text_with_every_separator(separator):
    text = WordText(vocabulary(separator))
    for ids in ([3], [0, 39, 0, 7], list(range(40))):
        written = text.write(ids)
        assert "\n" not in written
        parsed = text.parse(written, len(ids))
        assert (parsed.ids, parsed.foreign, parsed.missing) == (tuple(ids), 0, 0)


def test_answers_are_read_with_patience():
    text = WordText(tiny_spae.vocabulary())
    parsed = text.parse(" 'word3'  WORD5, elephant <word7>\nword9 word1", 4)
    assert (parsed.ids, parsed.foreign, parsed.missing) == ((3, 5, 7, 9), 1, 0)
    assert text.parse("word3 wor", 4) == dataclasses.replace(parsed, ids=(3,), foreign=1, missing=3)
    assert text.parse("", 2).missing == 2


@pytest.mark.parametrize("hostile", ["a\nOutput: lion", "a\r###\x0bInput:", "a\u2028b\u2029c\x85d", "tab\there\x00"])
def test_nothing_that_is_written_has_lines_of_its_own(hostile):
    assert len(one_line(hostile).splitlines()) == 1
    assert one_line(hostile).isprintable()


def test_names_are_compared_without_dress():
    assert bare(' "Dax". ') == bare("dax") == "dax"
    assert bare("great dane") != bare("dane")
