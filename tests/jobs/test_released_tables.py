"""Tables of the paper and task folders of lm-eval from files in the layouts that others released."""

import json
import runpy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import harness, reproduce
from jobs.harnesses.lm_eval_folder import COMPARED_AS
from spae.incontext.tasks import DRAWING_TASKS, RELEASED_TASKS, TASKS, ReleasedData
from tests.released_data import save_captions, save_coco_qa, save_inner_shots, save_tab_1


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("released")
    save_tab_1(folder, "real_name_mi")
    (folder / "real_name_mi_shots_5_ways_5_all_questions.json").unlink()
    for shots in (1, 3, 5):
        save_inner_shots(folder, "real_fast_vqa", shots, 2)
    save_coco_qa(folder)
    save_captions(folder)
    return folder


def reproduced(table, data, model, output):
    flags = ("--model", model, "--data", str(data), "--llm", "nearest-context", "--episodes", "4")
    assert reproduce.main([table, "--output", str(output), *flags]) == 0
    cells = json.loads((output / f"{table}.json").read_text())["cells"]
    return {(cell["layers"], cell["column"]): cell for cell in cells}


def test_tab_1_asks_the_papers_own_task_and_names_the_file_that_is_missing(data, model, tmp_path):
    found = reproduced("tab1", data, model, tmp_path)
    measured = [cell["column"] for cell in found.values() if cell["value"] is not None]
    assert len(measured) == 2 * (13 + 1)
    assert "real_name_mi_shots_5_ways_5_all_questions.json" in found[2, "5-way-5-shot"]["reason"]
    assert "| task | classes by their own names | mini-imagenet-real |" in (tmp_path / "tab1.md").read_text()


def test_tab_3_stands_beside_real_fast_vqas_figures(data, model, tmp_path):
    found = reproduced("tab3", data, model, tmp_path)
    assert {column for _, column in found} == {"2-way-1-shot", "2-way-3-shot", "2-way-5-shot"}
    assert [found[2, f"2-way-{n}-shot"]["published"]["SPAE_PaLM"] for n in (1, 3, 5)] == [14.3, 15.9, 15.1]
    assert all(cell["count"] == 4 for cell in found.values())


def write(task, data, model, output):
    return harness.main(
        ["--task", task, "--model", model, "--data", str(data), "--episodes", "4", "--output", str(output)]
    )


@pytest.mark.parametrize("task", ["mini-imagenet-real", "real-fast-vqa", "coco-qa"])
def test_released_questions_are_written_for_lm_eval(task, data, model, tmp_path):
    assert write(task, data, model, tmp_path) == 0
    for file in tmp_path.glob("*.jsonl"):
        rows = [json.loads(line) for line in file.open()]
        assert [row["episode"] for row in rows] == [0, 1, 2, 3]
        assert all(row["prompt"] and row["target"] for row in rows)


def test_captions_are_refused(data, model, tmp_path, caplog):
    assert write("coco-captions", data, model, tmp_path) == 2
    assert "--task coco-captions scores by more than an exact match; those that do are few-shot-real" in caplog.text
    assert set(TASKS) - set(COMPARED_AS) == {"coco-captions", *DRAWING_TASKS}


@pytest.fixture(scope="module")
def scoring(data, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scoring")
    assert write("real-fast-vqa", data, model, folder) == 0
    return runpy.run_path(str(folder / "scoring.py"))


@given(st.text(), st.sampled_from(["two", "a dog.", "3,000", "it's", ""]), st.booleans())
def test_an_answer_to_a_question_scores_there_what_it_scores_here(scoring, answer, target, right):
    task = RELEASED_TASKS["real-fast-vqa"](ReleasedData(folder="", words=None, layers=2))
    answer = f" The {target}!" if right else answer
    here = task.score(task.parse(answer), target)
    assert scoring["exact_match"]({"target": target}, [answer]) == {"exact_match": here}
