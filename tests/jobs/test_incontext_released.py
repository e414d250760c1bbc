"""The command on released files: a random tokenizer, real pictures, and the reference that reads the prompt's text."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from jobs import incontext
from spae.incontext.prompts import SETTINGS
from tests import tiny_spae
from tests.released_data import save_captions, save_coco_qa, save_inner_shots


def run(task, data, model, output, *flags):
    places = {"--model": model, "--data": data, "--output": output, "--task": task, "--llm": "nearest-context"}
    return incontext.main([str(part) for pair in places.items() for part in pair] + list(map(str, flags)))


def read(output, task):
    return [row for file in sorted((output / task).rglob("*.parquet")) for row in pq.read_table(file).to_pylist()]


@pytest.fixture
def shown_again(tmp_path):
    """Of every setting of Tab. 1 a file whose questions are about the last example's picture."""
    for shots, ways in {(setting.shots, setting.ways) for setting in SETTINGS.values()}:
        items = save_inner_shots(tmp_path, "real_name_mi", shots, ways)
        for item in items:
            last = shots * ways
            item |= {"question_image": item[f"image_{last}"], "answer": item[f"caption_{last}"].split()[-1]}
        (tmp_path / f"real_name_mi_shots_{shots}_ways_{ways}_all_questions.json").write_text(json.dumps(items))
    return tmp_path


def test_all_of_tab_1_by_a_reader_that_finds_the_same_picture_again(shown_again, model, tmp_path, capsys):
    output = tmp_path / "output"
    assert run("mini-imagenet-real", shown_again, model, output, "--episodes", 6, "--layers", 4) == 0
    rows = read(output, "mini-imagenet-real")
    assert {row["setting"] for row in rows} == set(SETTINGS)
    assert len(rows) == 14 * 6
    assert all(row["error"] is None and row["query_key"] in row["support_keys"] for row in rows)
    assert sum(row["score"] for row in rows) >= 0.9 * len(rows), "two digits in a hundred may have the same 37 words"
    summary = json.loads((output / "summary.json").read_text())["mini-imagenet-real"]
    assert (summary["5-way-3-shot"]["chance"], summary["5-way-3-shot"]["n"]) == (0.2, 6)
    assert "2-way-1-shot-5-repeats" in capsys.readouterr().out
    assert run("mini-imagenet-real", shown_again, model, output, "--episodes", 6, "--layers", 4) == 0
    assert read(output, "mini-imagenet-real") == rows, "a rerun asks nothing again"


def test_a_picture_that_cannot_be_read_is_a_row_with_its_reason(model, tmp_path, caplog):
    data, output = tmp_path / "data", tmp_path / "output"
    items = save_inner_shots(data, "real_name_mi", 1, 2, questions=6)
    (tmp_path / "outside.png").write_bytes((data / items[0]["image_1"]).read_bytes())
    (data / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    items[0]["image_1"], items[1]["question_image"] = "../outside.png", "no.png"
    items[2]["question_image"] = "broken.png"
    items[3]["image_2"] = str(tmp_path / "outside.png")
    (data / "real_name_mi_shots_1_ways_2_all_questions.json").write_text(json.dumps(items))
    assert run("mini-imagenet-real", data, model, output, "--episodes", 6, "--settings", "2-way-1-shot") == 1
    rows = read(output, "mini-imagenet-real")
    assert len(rows) == 6, "inputs are answers and errors"
    errors = sorted(row["error"].split(": ", 1)[1] for row in rows if row["error"])
    assert [error.split(": ")[0] for error in errors] == [
        "cannot be read",
        "no image",
        *["not below the data's folder"] * 2,
    ]
    assert all((row["score"], row["prompt"], row["answer"]) == (0, "", "") for row in rows if row["error"])
    assert "4 questions without an answer" in caplog.text
    assert json.loads((output / "summary.json").read_text())["mini-imagenet-real"]["2-way-1-shot"]["errors"] == 4


def test_pictures_that_are_all_lost_ask_nothing_and_end_well(model, tmp_path):
    save_inner_shots(tmp_path, "real_fast_vqa", 1, 2)
    shutil.rmtree(tmp_path / "pictures")
    flags = ("--episodes", 3, "--settings", "2-way-1-shot")
    assert run("real-fast-vqa", tmp_path, model, tmp_path / "output", *flags) == 1
    assert [bool(row["error"]) for row in read(tmp_path / "output", "real-fast-vqa")] == [True] * 3


def test_fig_5_compares_layers_and_a_baseline_on_the_same_questions(model, tmp_path, caplog):
    save_coco_qa(tmp_path)
    tiny_spae.model(1).save_pretrained(str(tmp_path / "baseline"))
    flags = ("--episodes", 8, "--baseline-model", tmp_path / "baseline")
    assert run("coco-qa", tmp_path, model, tmp_path / "output", *flags) == 0
    asked = {}
    for row in read(tmp_path / "output", "coco-qa"):
        assert row["error"] is None
        assert row["answer"].startswith("thing")
        asked.setdefault(row["setting"], []).append((row["query_key"], row["support_keys"], row["target"]))
    assert list(asked) == ["2-layers", "4-layers", "baseline"], "the tokenizer has four layers"
    assert asked["2-layers"] == asked["4-layers"] == asked["baseline"]
    tiny_spae.model(2).save_pretrained(str(tmp_path / "baseline"))
    assert run("coco-qa", tmp_path, model, tmp_path / "output", *flags) == 2
    assert "baseline_fingerprint" in caplog.text


def test_captions_have_scores_of_all_together(model, tmp_path, capsys):
    save_captions(tmp_path)
    flags = ("--episodes", 5, "--settings", "4-layers")
    assert run("coco-captions", tmp_path, model, tmp_path / "output", *flags) == 0
    rows = read(tmp_path / "output", "coco-captions")
    assert all(row["answer"].startswith("A p") and 0 < row["score"] <= 1 for row in rows)
    scores = json.loads((tmp_path / "output" / "summary.json").read_text())["coco-captions"]["4-layers"]
    assert scores["mean"] == pytest.approx(sum(row["score"] for row in rows) / 5)
    assert 0 < scores["BLEU-4"] <= scores["BLEU-1"] <= 1
    assert 0 <= scores["CIDEr"] <= 10
    assert scores["chance"] is None
    printed = capsys.readouterr().out
    assert f"CIDEr {scores['CIDEr']:.4f}" in printed
    assert "chance" not in printed


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("mini-imagenet-real", "real_name_mi_shots_1_ways_2_all_questions.json: cannot be read"),
        ("real-fast-vqa", "real_fast_vqa_shots_1_ways_2_all_questions.json: cannot be read"),
        ("coco-qa", "/img_ids.txt: cannot be read"),
        ("coco-captions", "holds 0 files captions_"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_asked(model, tmp_path, task, message, caplog):
    assert run(task, tmp_path, model, tmp_path / "output") == 2
    assert message in caplog.text


def test_a_setting_without_its_file_is_told_and_the_others_are_asked(model, tmp_path, capsys, caplog):
    save_inner_shots(tmp_path, "real_name_mi", 1, 5)
    assert run("mini-imagenet-real", tmp_path, model, tmp_path / "output", "--episodes", 6) == 0
    settings = {row["setting"] for row in read(tmp_path / "output", "mini-imagenet-real")}
    assert settings == {setting for setting in SETTINGS if setting.startswith("5-way-1-shot")}
    missing = "real_name_mi_shots_5_ways_2_all_questions.json: cannot be read"
    assert missing in capsys.readouterr().out
    flags = ("--episodes", 6, "--settings", "2-way-5-shot")
    assert run("mini-imagenet-real", tmp_path, model, tmp_path / "output", *flags) == 2
    assert missing in caplog.text


def test_closed_answers_are_the_names_or_there_are_none(model, tmp_path, caplog):
    save_coco_qa(tmp_path)
    flags = ("--episodes", 5, "--settings", "2-layers", "--closed")
    assert run("coco-qa", tmp_path, model, tmp_path / "closed", *flags) == 0
    assert all(row["answer"].startswith("thing") for row in read(tmp_path / "closed", "coco-qa"))
    save_captions(tmp_path)
    assert run("coco-captions", tmp_path, model, tmp_path / "closed", *flags) == 2
    assert "answers to coco-captions are free text" in caplog.text


def test_more_episodes_than_there_are_questions_is_an_error(model, tmp_path, caplog):
    save_coco_qa(tmp_path)
    assert run("coco-qa", tmp_path, model, tmp_path / "output", "--episodes", 13) == 2
    assert "coco-qa has 12 questions" in caplog.text


def test_a_dry_run_tells_the_prompt(model, tmp_path, capsys, caplog):
    save_coco_qa(tmp_path)
    assert run("coco-qa", tmp_path, model, tmp_path / "output", "--episodes", 12, "--dry-run") == 0
    assert capsys.readouterr().out.endswith("\nA:\n")
    assert "2 settings, 24 queries to ask" in caplog.text
