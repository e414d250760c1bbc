import collections
import dataclasses

import numpy as np
import pytest

from spae.incontext.prompts import SETTINGS
from spae.incontext.tasks import CONTROLS, FewShotTask, LabelledWords

CLASSES = dict(enumerate(("zero", "one", "two", "three", "four", "five")))


def split(name: str, each: int) -> LabelledWords:
    """Pictures whose words say their class and number."""
    labels = np.repeat(np.arange(6), each)
    numbers = np.tile(np.arange(each), 6)
    pairs = list(zip(labels, numbers, strict=True))
    keys = tuple(f"{name}-{label}-{number}" for label, number in pairs)
    return LabelledWords(keys, labels, tuple(f"class{label} number{number}" for label, number in pairs))


@pytest.fixture
def task():
    return FewShotTask(support=split("train", 9), scored=split("test", 4), class_names=CLASSES, seed=5)


def examples(prompt):
    """(words, name) pairs of a prompt in LQAE's wording."""
    blocks = prompt.shared.split("###\n")[1:]
    return [tuple(line.split(": ", 1)[1] for line in block.strip().split("\n")) for block in blocks]


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_episode_depends_on_its_number_alone(task, setting):
    chosen = SETTINGS[setting]
    for number in (0, 7):
        episode = task.episode(setting, number)
        assert episode == task.episode(setting, number)
        assert len(episode.support_keys) == len(set(episode.support_keys)) == chosen.ways * chosen.shots
        assert len(episode.questions) == 8
        assert all(key.startswith("train-") for key in episode.support_keys)
        assert all(question.key.startswith("test-") for question in episode.questions)
        assert len({question.prompt.shared for question in episode.questions}) == 1
        assert len(examples(episode.questions[0].prompt)) == chosen.ways * chosen.shots * (chosen.repeats + 1)
    assert task.episode(setting, 0) != task.episode(setting, 7)
    assert task.episode(setting, 0) != dataclasses.replace(task, seed=6).episode(setting, 0)


@pytest.mark.parametrize("names", ["real", "made-up", "other"])
def test_examples_and_targets_call_a_class_the_same(task, names):
    named = dataclasses.replace(task, names=names)
    for number in range(5):
        episode = named.episode("5-way-3-shot", number)
        told = examples(episode.questions[0].prompt)
        called = {words.split()[0]: name for words, name in told}
        assert len(called) == len(set(called.values())) == 5
        for question in episode.questions:
            words = question.prompt.query.split("Input: ")[1].split("\n")[0]
            assert called[words.split()[0]] == question.target
        if names != "real":
            assert not set(called.values()) & set(CLASSES.values())


def test_queries_ask_every_class_as_often(task):
    counts = collections.Counter(question.target for question in task.episode("5-way-1-shot", 3).questions)
    assert sorted(counts.values()) == [1, 1, 2, 2, 2]


@pytest.mark.parametrize("control", sorted(CONTROLS.keys() - {"random-table"}))
def test_controls_change_the_examples_alone(task, control):
    plain, changed = (task.episode(setting, 2) for setting in ("5-way-3-shot", f"5-way-3-shot+{control}"))
    assert plain.support_keys == changed.support_keys
    assert [one.key for one in plain.questions] == [one.key for one in changed.questions]
    assert [one.target for one in plain.questions] == [one.target for one in changed.questions]
    before, after = examples(plain.questions[0].prompt), examples(changed.questions[0].prompt)
    assert before != after
    names = [collections.Counter(name for _, name in told) for told in (before, after)]
    assert names[0] == names[1]
    words = [collections.Counter(" ".join(text for text, _ in told).split()) for told in (before, after)]
    assert (words[0] == words[1]) == (control != "names-as-words")


def test_labels_that_were_permuted_say_nothing(task):
    """Over many episodes an example is called rightly as often as chance has it."""
    right = total = 0
    for number in range(200):
        episode = task.episode("5-way-3-shot+permuted-labels", number)
        names = {f"class{q.key.split('-')[1]}": q.target for q in episode.questions}
        for words, name in examples(episode.questions[0].prompt):
            if (label := words.split()[0]) in names:
                total += 1
                right += names[label] == name
    assert right / total == pytest.approx(0.2, abs=0.03)


def test_only_the_whole_name_is_right(task):
    assert task.score(task.parse(" Dax.\n### Input"), "dax") == 1
    assert task.score(task.parse("dax or blicket"), "dax") == 0
    assert task.score(task.parse(""), "dax") == 0


def test_what_cannot_be_drawn_is_named(task):
    with pytest.raises(ValueError, match="none of 2-way-1-shot-no-induction"):
        task.episode("3-way", 0)
    with pytest.raises(ValueError, match=r"none of .*permuted-labels"):
        task.episode("5-way-1-shot+nothing", 0)
    few = dataclasses.replace(task, support=split("train", 2))
    with pytest.raises(ValueError, match="0 classes have a name, a query and 3 examples"):
        few.episode("5-way-3-shot", 0)
