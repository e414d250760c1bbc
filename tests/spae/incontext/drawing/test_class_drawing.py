"""Episodes of drawing by a name, a sum or a successor."""

from collections import Counter

import numpy as np
import pytest

from spae.incontext.drawing import ClassDrawing
from spae.incontext.drawing.class_drawing import NUMBERS


class Pictures:
    """Of every label five pictures, whose ids are label and number."""

    def __init__(self, labels=10):
        self.labels = np.repeat(np.arange(labels), 5)
        self.keys = [f"{label}-{row}" for row, label in enumerate(self.labels.tolist())]
        self.members = {label: np.flatnonzero(self.labels == label) for label in range(labels)}

    def ids(self, row):
        return (int(self.labels[row]), row)


DIGITS = dict(enumerate(NUMBERS))


def task(names=DIGITS, **flags):
    return ClassDrawing(support=Pictures(len(names)), class_names=names, **flags)


@pytest.mark.parametrize("setting", ["1-shot", "5-shot", "3-shot-sum", "3-shot-successor"])
def test_examples_are_of_all_classes_and_say_which(setting):
    episode = task().episode(setting, 3)
    assert set(Counter(example.ids[0] for example in episode.examples).values()) == {int(setting[0])}
    for example in episode.examples:
        name = NUMBERS[example.ids[0]]
        assert example.condition == f"an image of {example.ids[0] if 'sum' in setting else name}"
    assert task().episode(setting, 3) == episode
    assert task().episode(setting, 4) != episode


def test_a_sum_is_its_target_and_a_successor_follows():
    for number in range(5):
        for query in task().episode("1-shot-sum", number).queries:
            assert NUMBERS[sum(map(int, query.condition.removeprefix("an image of ").split("+")))] == query.target
        for query in task().episode("1-shot-successor", number).queries:
            before = query.condition.removeprefix("an image of the number after ")
            assert NUMBERS[NUMBERS.index(before) + 1] == query.target


def test_the_control_tells_the_same_pictures_by_names_dealt_anew():
    plain, control = (task().episode(setting, 0) for setting in ("3-shot", "3-shot+permuted-labels"))
    assert [example.ids for example in plain.examples] == [example.ids for example in control.examples]
    conditions = [[example.condition for example in episode.examples] for episode in (plain, control)]
    assert conditions[0] != conditions[1]
    assert sorted(conditions[0]) == sorted(conditions[1])
    assert plain.queries == control.queries


@pytest.mark.parametrize("wording", ["", "-sum", "-successor"])
def test_the_examples_of_what_is_asked_for_can_come_last(wording):
    plain, control = (task().episode(f"3-shot{wording}{last}", 0) for last in ("", "+asked-last"))
    assert plain.queries == control.queries
    for query, request in zip(control.queries, control.requests, strict=True):
        assert sorted(example.ids for example in request.examples) == sorted(one.ids for one in plain.examples)
        shown = [NUMBERS[example.ids[0]] == query.target for example in request.examples]
        assert shown == [False] * 27 + [True] * 3


def test_queries_are_of_all_classes_in_turn():
    targets = Counter(query.target for query in task(queries=20).episode("1-shot", 0).queries)
    assert set(targets.values()) == {2}


def test_what_cannot_be_asked_is_named():
    pets = {0: "cat", 1: "dog"}
    assert task(pets).episode("1-shot", 0).queries[0].target in pets.values()
    assert task(pets).chance("1-shot") == 0.5
    with pytest.raises(ValueError, match="class 'cat' is none of zero, one"):
        task(pets).episode("1-shot-sum", 0)
    with pytest.raises(ValueError, match="setting '2-shot' is none of 1-shot"):
        task().episode("2-shot", 0)
