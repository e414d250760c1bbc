from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spae.data.records import ClassName
from spae.data.sources.labels import Labels


def test_one_broken_label_does_not_shift_the_others():
    labels = Labels.occurring(["3", "07", "3", "x"])
    assert labels.classes == (ClassName(3, "3"), ClassName(7, "7"))
    assert [labels.find(text) for text in ("3", "07", "7.0", "x")] == [
        (3, ""),
        (7, ""),
        (7, ""),
        (None, "unknown label"),
    ]


def test_names_may_be_numbers_among_names():
    labels = Labels.occurring(["corvette", "911", "beetle"])
    assert [row.name for row in labels.classes] == ["911", "beetle", "corvette"]
    assert labels.find("911") == (0, "")


@given(st.lists(st.text(min_size=1).filter(lambda text: text.strip() and text.strip()[0] != "0"), min_size=1))
def test_every_text_has_a_label_or_a_problem(texts):
    labels = Labels.occurring(texts)
    found = {text: labels.find(text) for text in texts}
    assert all((label is None) == bool(problem) for label, problem in found.values())
    assert {label for label, _ in found.values()} - {None} == {row.label for row in labels.classes}
    assert 2 * sum(count for text, count in Counter(texts).items() if found[text][1]) < len(texts)


@pytest.mark.parametrize("text", ["red", "-1", "4", ""])
def test_a_class_called_none_takes_no_other_label(text):
    labels = Labels.given([ClassName(0, "None"), ClassName(1, "other")])
    assert labels.find("None") == (0, "")
    assert labels.find(text)[0] is None
