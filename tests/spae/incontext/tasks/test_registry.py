from pathlib import Path

import pytest

from spae.incontext.tasks import DRAWING_TASKS, LABELLED_TASKS, RELEASED_TASKS, TASKS, ReleasedData
from tests.spae.incontext.tasks.paths_as_words import PathsAsWords

DOCS = Path(__file__).parents[4] / "docs" / "incontext.md"


def test_every_task_has_its_row_in_the_docs():
    assert set(TASKS) == {*LABELLED_TASKS, *RELEASED_TASKS, *DRAWING_TASKS}
    assert [name for name in TASKS if f"\n| `{name}` |" not in DOCS.read_text()] == []
    assert [name for name in RELEASED_TASKS if f"--task {name} --data" not in DOCS.read_text()] == []


@pytest.mark.parametrize("name", RELEASED_TASKS)
def test_a_task_has_the_name_that_it_is_asked_for_by_and_settings(name, tmp_path):
    task = RELEASED_TASKS[name](ReleasedData(folder=str(tmp_path), words=PathsAsWords(), layers=2))
    assert task.name == name
    assert len(set(task.settings)) == len(task.settings) > 0
    for setting in task.settings:
        assert task.limits(setting).stop == ("\n",)
        with pytest.raises(ValueError, match=str(tmp_path)):
            task.episode(setting, 0)
