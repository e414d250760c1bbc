import pytest

from spae.incontext.tasks import RELEASED_TASKS, ReleasedData
from tests.released_data import save_inner_shots
from tests.spae.incontext.tasks.paths_as_words import PathsAsWords


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    made = tmp_path_factory.mktemp("real_fast_vqa")
    for shots in (1, 3, 5):
        save_inner_shots(made, "real_fast_vqa", shots, 2, question="What is left\nof the digit?", answer="two")
    return RELEASED_TASKS["real-fast-vqa"](ReleasedData(folder=str(made), words=PathsAsWords(), layers=3))


@pytest.mark.parametrize(("setting", "pictures"), [("2-way-1-shot", 2), ("2-way-3-shot", 6), ("2-way-5-shot", 10)])
def test_pictures_introduce_classes_then_the_question_is_asked(task, setting, pictures):
    episode = task.episode(setting, 1)
    (question,) = episode.questions
    lines = question.prompt.text.split("\n")
    assert lines[0] == "Answer with a single word."
    assert lines[1::3] == [f"C: {name} at 3" for name in (*episode.support_keys, question.key)]
    assert lines[2::3] == ["Q: What is this?"] * pictures + ["Q: What is left of the digit?"]
    assert all(line.startswith("A: ") for line in lines[3:-1:3])
    assert len({*lines[3:-1:3]}) == 2
    assert lines[-1] == "A:"
    assert task.limits(setting).most_tokens == 4
    assert task.chance(setting) is None


def test_settings_are_those_of_tab_3(task):
    assert task.settings == ("2-way-1-shot", "2-way-3-shot", "2-way-5-shot")
    with pytest.raises(ValueError, match="'5-way-1-shot' is none of 2-way-1-shot, 2-way-3-shot, 2-way-5-shot"):
        task.episode("5-way-1-shot", 0)


def test_answers_are_compared_as_vqa_v2_does(task):
    assert task.score(task.parse(" Two.\nQ: more"), "2") == 1
    assert task.score(task.parse("two of them"), "2") == 0
    assert task.score(task.parse(""), "the") == 0, "nothing is no answer"
