"""The command on pictures whose words say their class, asked of the reference that reads the prompt's text alone."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import incontext
from spae.data.media import encode_png
from spae.incontext.episodes import SCHEMA
from tests.tiny_shards import write_split

SETTINGS = ("2-way-1-shot", "2-way-3-shot+permuted-labels")


def pictures(each: int, name: str):
    """Of every class the same picture again and again."""
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    return [(f"{name}-{label}-{n}", encode_png(blocks[label]), label) for n in range(each) for label in range(3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("incontext")
    write_split(root / "train", [pictures(5, "a"), pictures(3, "b")], "train")
    write_split(root / "test", [pictures(4, "c")])
    return root


def run(folder, model, output, *flags):
    places = {"--model": model, "--shards": folder / "test", "--support-shards": folder / "train", "--output": output}
    arguments = [str(part) for pair in places.items() for part in pair]
    return incontext.main([*arguments, "--llm", "nearest-context", "--episodes", "30", "--settings", *SETTINGS, *flags])


def test_every_query_is_a_row_of_the_contract(folder, model, tmp_path, capsys):
    assert run(folder, model, tmp_path) == 0
    files = sorted((tmp_path / "few-shot-made-up" / SETTINGS[0]).iterdir())
    assert [file.name for file in files] == ["episodes-000000.parquet", "episodes-000001.parquet"]
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert pq.read_schema(files[0]).remove_metadata() == SCHEMA
    assert [row["episode"] for row in rows] == [number for number in range(30) for _ in range(8)]
    assert all(row["prompt"].endswith("Output:") and row["answer"] == row["target"] for row in rows)
    summary = json.loads((tmp_path / "summary.json").read_text())
    exact, permuted = (summary["few-shot-made-up"][setting] for setting in SETTINGS)
    assert (exact["mean"], exact["n"], exact["episodes"], exact["chance"]) == (1.0, 240, 30, 0.5)
    assert permuted["low"] < 0.5 < permuted["high"], "a reader of the words is at chance without their labels"
    assert summary["protocol"]["llm"] == "nearest-context"
    assert "100.0%" in capsys.readouterr().out


def test_a_rerun_asks_only_what_is_missing_and_gives_the_same_rows(folder, model, tmp_path):
    assert run(folder, model, tmp_path) == 0
    files = {file: pq.read_table(file).drop_columns("seconds") for file in tmp_path.rglob("*.parquet")}
    times = {file: file.stat().st_mtime_ns for file in files}
    lost = min(files)
    lost.unlink()
    assert run(folder, model, tmp_path) == 0
    assert all(pq.read_table(file).drop_columns("seconds").equals(table) for file, table in files.items())
    assert [file for file in files if file.stat().st_mtime_ns != times[file]] == [lost]


def test_more_episodes_keep_those_that_are_there(folder, model, tmp_path):
    assert run(folder, model, tmp_path, "--episodes", "5") == 0
    first = [one for file in tmp_path.rglob("*.parquet") for one in pq.read_table(file)["answer"].to_pylist()]
    assert run(folder, model, tmp_path) == 0
    assert len(first) == 2 * 5 * 8
    assert json.loads((tmp_path / "summary.json").read_text())["few-shot-made-up"][SETTINGS[0]]["episodes"] == 30


def test_a_summary_keeps_other_settings_and_tasks_of_the_same_protocol(folder, model, tmp_path):
    def summary():
        return json.loads((tmp_path / "summary.json").read_text())

    few = ("--episodes", "2")
    assert run(folder, model, tmp_path, *few, "--settings", SETTINGS[0]) == 0
    first = summary()["few-shot-made-up"][SETTINGS[0]]
    assert run(folder, model, tmp_path, *few, "--settings", "2-way-3-shot") == 0
    assert run(folder, model, tmp_path, *few, "--task", "few-shot-real", "--settings", SETTINGS[0]) == 0
    assert summary()["few-shot-made-up"][SETTINGS[0]] == first
    assert {name: set(one) for name, one in summary().items() if name != "protocol"} == {
        "few-shot-made-up": {SETTINGS[0], "2-way-3-shot"},
        "few-shot-real": {SETTINGS[0]},
    }
    assert run(folder, model, tmp_path, *few, "--layers", "1", "--settings", "2-way-5-shot") == 0
    assert set(summary()) == {"protocol", "few-shot-made-up"}, "of another protocol nothing is kept"
    (tmp_path / "summary.json").write_text("{")
    assert run(folder, model, tmp_path, *few, "--layers", "1", "--settings", "2-way-5-shot") == 0
    assert set(summary()["few-shot-made-up"]) == {"2-way-5-shot"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--seed", "1"), "seed 0, and this run has 1"),
        (("--layers", "1"), "layers 2, and this run has 1"),
        (("--settings", "9-way"), "none of 2-way-1-shot-no-induction"),
        (("--settings", "5-way-1-shot"), "3 classes have a name"),
        (("--layers", "9"), "layers=9 is outside"),
        (("--llm", "/nowhere.gguf"), "no language model at"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(folder, model, tmp_path, flags, message, caplog):
    assert run(folder, model, tmp_path, "--episodes", "2") == 0
    assert run(folder, model, tmp_path, "--episodes", "2", *flags) == 2
    assert message in caplog.text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--task", "nothing"), "--task 'nothing' is none of few-shot-real, few-shot-made-up, few-shot-other"),
        (("--data", "there"), "takes --shards and --support-shards, and no other"),
    ],
)
def test_a_task_says_what_it_takes(folder, model, tmp_path, flags, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(folder, model, tmp_path, *flags)
    assert message in " ".join(capsys.readouterr().err.replace("│", "").split())


def test_a_dry_run_shows_a_prompt_and_asks_nothing(folder, model, tmp_path, capsys, caplog):
    assert run(folder, model, tmp_path, "--dry-run") == 0
    assert "480 queries to ask of nearest-context" in caplog.text
    assert capsys.readouterr().out.rstrip().endswith("Output:")
    assert not list(Path(tmp_path).iterdir())
