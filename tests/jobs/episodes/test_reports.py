"""What a run tells of its settings beside their means: pairs, published figures, what means nothing, and estimates."""

import json
import logging

import pytest
from transformers import LlamaConfig

from jobs.episodes.reports import published_percents
from spae.data.records import ClassName, save_classes
from tests.completions_server import serving
from tests.jobs.episodes.runs import SETTING, rows, run, save_splits
from tests.tiny_causal import SIZES, save_causal

TASK = "few-shot-made-up"
PERMUTED = f"{SETTING}+permuted-labels"


def summary(output):
    return json.loads((output / "summary.json").read_text())[TASK]


def test_controls_are_paired_with_their_plain_setting(folder, model, tmp_path, capsys):
    assert run(folder, model, tmp_path, "--settings", SETTING, PERMUTED, "--episodes", "30") == 0
    plain, control = (summary(tmp_path)[setting] for setting in (SETTING, PERMUTED))
    assert "paired" not in plain
    paired = control["paired"][SETTING]
    assert (paired["n"], paired["episodes"]) == (240, 30)
    assert paired["mean"] == pytest.approx(control["mean"] - plain["mean"])
    assert paired["low"] < paired["mean"] < paired["high"] < 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(f"  minus {SETTING}: "))
    assert f"{100 * paired['mean']:+.1f} points" in line


def test_a_control_alone_is_paired_with_nothing(folder, model, tmp_path):
    assert run(folder, model, tmp_path, "--settings", PERMUTED) == 0
    assert "paired" not in summary(tmp_path)[PERMUTED]


def test_systems_are_compared_on_the_questions_of_both(folder, model, tmp_path, capsys, caplog):
    others = [tmp_path / "pixels", tmp_path / "again"]
    assert run(folder, model, others[0], "--llm", "raw-pixels", "--episodes", "6") == 0
    assert run(folder, model, others[1], "--layers", "1", "--episodes", "3") == 0
    assert run(folder, model, tmp_path / "own", "--episodes", "6", "--compare", *others) == 0
    paired = summary(tmp_path / "own")[SETTING]["paired"]
    assert [paired[str(other)]["n"] for other in others] == [48, 24]
    assert paired[str(others[0])]["mean"] == 0
    assert f"  minus {others[0]}: +0.0 points" in capsys.readouterr().out
    assert run(folder, model, tmp_path / "own", "--settings", SETTING, "2-way-3-shot", "--compare", others[0]) == 0
    assert "paired" not in summary(tmp_path / "own")["2-way-3-shot"]
    assert (
        run(folder, model, tmp_path / "own", "--episodes", "6", "--settings", "2-way-3-shot", "--compare", others[0])
        == 2
    )
    assert "holds none of the settings 2-way-3-shot" in caplog.text
    assert run(folder, model, tmp_path / "seed", "--seed", "1", "--compare", others[0]) == 2
    assert "has seed 0 in 2-way-1-shot, and this run has 1" in caplog.text
    assert not (tmp_path / "seed").exists(), "nothing is asked before"


def test_published_figures_stand_beside_settings_that_the_paper_has(folder, model, tmp_path, capsys):
    assert run(folder, model, tmp_path, "--settings", SETTING, PERMUTED) == 0
    key = "published (other pictures and language models)"
    assert summary(tmp_path)[SETTING][key]["SPAE_PaLM, 2 layers"] == 84.0
    assert key not in summary(tmp_path)[PERMUTED]
    assert capsys.readouterr().out.count(key) == 1
    assert published_percents("real-fast-vqa", "2-way-3-shot") == {"Frozen": 10.1, "SPAE_PaLM": 15.9}
    assert published_percents(TASK, "2-way-1-shot+random-table") == {}


def test_settings_that_mean_nothing_are_told_where_all_are_asked(folder, model, tmp_path, capsys):
    """Three classes give no five ways."""
    assert run(folder, model, tmp_path, "--settings", "all", "--episodes", "1") == 0
    found = summary(tmp_path)
    assert len(found) == 14
    assert {setting for setting, one in found.items() if "n/a" in one} == {name for name in found if name[0] == "5"}
    assert found["5-way-1-shot"]["n/a"].startswith("3 classes have a name")
    assert capsys.readouterr().out.count("n/a: 3 classes") == 7


def test_a_setting_whose_files_all_fail_is_told_with_the_others(model, tmp_path, caplog, capsys):
    """A class whose name takes more tokens than any closed answer."""
    llm = save_causal(tmp_path / "llm", LlamaConfig(**SIZES))
    folder = save_splits(tmp_path)
    for split in ("train", "test"):
        save_classes(str(folder / split), [ClassName(label, str(label) * 200) for label in range(3)])
    flags = ("--llm", llm, "--task", "few-shot-real", "--layers", "1", "--episodes", "2", "--closed")
    assert run(folder, model, tmp_path / "out", *flags) == 1
    assert "gets no rows: the allowed answer" in caplog.text
    assert json.loads((tmp_path / "out/summary.json").read_text())["few-shot-real"] == {
        SETTING: {"n/a": "no rows to summarise; ask at least one episode"}
    }
    assert f"{SETTING:44} n/a: no rows" in capsys.readouterr().out


def test_a_dry_run_estimates_what_the_run_then_takes(folder, model, tmp_path, caplog, capsys):
    caplog.set_level(logging.INFO)
    with serving() as server:
        flags = ("--llm", server.url, "--llm-name", "tiny", "--episodes", "30", "--settings", SETTING, "2-way-5-shot")
        prices = ("--prompt-price", "1000", "--answer-price", "2000")
        assert run(folder, model, tmp_path, *flags, *prices, "--dry-run") == 0
        assert server.requests == []
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out.rstrip().endswith("Output:")
    assert "480 queries to ask of tiny" in caplog.text
    line = next(record.getMessage() for record in caplog.records if record.getMessage().startswith("about "))
    told = int(line.split()[1])
    assert f"at most {480 * 7} answer tokens, at most {told / 1000 + 480 * 7 * 2 / 1000:.2f} at the given" in line
    assert run(folder, model, tmp_path, "--episodes", "30", "--settings", SETTING, "2-way-5-shot") == 0
    actual = sum(-(-len(row["prompt"].encode()) // 3) for row in rows(tmp_path))
    assert told == pytest.approx(actual, rel=0.1)
