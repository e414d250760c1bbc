"""The table of the demo's drawings, made of small models by the references without weights."""

import re

import pytest
import tyro

from jobs import demo_drawings
from jobs.demo_drawings import COLUMNS, DemoDrawingsFlags, markdown, mending, shared_flags, short_table, whole_table
from jobs.demos.asking import ask_demo
from jobs.incontext import IncontextFlags
from tests import tiny_spae
from tests.jobs.episodes.runs import save_splits


@pytest.mark.parametrize("runs", [short_table(), whole_table()], ids=["short", "whole"])
def test_every_row_is_a_command_that_draws_a_hundred_pictures(runs, tmp_path):
    shared = shared_flags(DemoDrawingsFlags())
    parsed = [tyro.cli(IncontextFlags, args=one.stage(tmp_path, tmp_path, shared).flags) for one in runs]
    assert len({one.output for one in parsed}) == len(parsed), "no two write into one folder"
    for one in parsed:
        assert one.draws
        same = {setting.endswith("-same-picture") for setting in one.settings}
        assert one.episodes * (1 if same == {True} else one.queries) == 100


def test_a_line_is_a_run_and_its_setting(tmp_path):
    tiny_spae.model().save_pretrained(str(tmp_path / "model"))
    save_splits(tmp_path / "shards")
    runs = mending("voted", "--stride", "0", "--drawn-layers", "2", reader="majority-context")[:1]
    assert ask_demo(runs, tmp_path, tmp_path / "drawings", ("--episodes", "2", "--queries", "2")) == 0
    head, _, line = markdown(runs, tmp_path / "drawings").splitlines()
    assert line.startswith("| voted | outpainting | ")
    assert line.count("|") == head.count("|")
    assert len(re.findall(r"[\d.]+ \([-\d.]+ to [\d.]+\)", line)) == len(COLUMNS)


def test_without_a_demo_there_is_nothing_to_draw_with(tmp_path, caplog):
    assert demo_drawings.main(["--demo", str(tmp_path)]) == 2
    assert "run `python -m jobs.demo` first" in caplog.text
