"""The table of the demo's reading, made of small models by the reference without weights."""

import dataclasses

import pytest
import tyro

from jobs import demo_incontext
from jobs.demo_incontext import CELLS, DemoIncontextFlags, markdown, shared_flags, whole_table
from jobs.demos.asking import DemoRun, ask_demo
from jobs.incontext import IncontextFlags
from spae.incontext.prompts import SETTINGS
from tests import tiny_spae
from tests.tiny_shards import samples, write_split


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    tiny_spae.model().save_pretrained(str(root / "model"))
    for split in ("train", "test"):
        write_split(root / "shards" / split, [samples(12)], split)
    return root


@pytest.mark.parametrize("readers", [demo_incontext.SIX_CELLS, whole_table()], ids=["six cells", "whole"])
def test_every_row_is_a_command_that_is_understood(readers, tmp_path):
    shared = shared_flags(DemoIncontextFlags())
    parsed = [tyro.cli(IncontextFlags, args=one.stage(tmp_path, tmp_path, shared).flags) for one in readers]
    assert len({one.output for one in parsed}) == len(parsed), "no two write into one folder"
    assert {setting.partition("+")[0] for one in parsed for setting in one.settings} <= set(SETTINGS)
    assert all(one.episodes * one.queries == 400 for one in parsed)


def test_the_whole_table_continues_the_six_cells():
    of_whole = {(one.folder, setting) for one in whole_table() for setting in one.settings}
    assert {(one.folder, setting) for one in demo_incontext.SIX_CELLS for setting in one.settings} <= of_whole


def test_a_line_is_a_reader_and_its_control(demo, tmp_path):
    settings = ("2-way-1-shot", "2-way-3-shot", "2-way-1-shot+permuted-labels")
    words = DemoRun(title="words", folder="words", task="few-shot-made-up", settings=settings, reader="nearest-context")
    twin = dataclasses.replace(words, title="one layer", folder="one", settings=settings[1:2], flags=("--layers", "1"))
    assert ask_demo((words, twin), demo, tmp_path, ("--layers", "2", "--episodes", "3")) == 0
    head, _, *lines = markdown([words, twin], tmp_path).splitlines()
    assert head == "| | 2-way-1-shot | 2-way-3-shot |"
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [
        "words",
        "words, permuted labels",
        "one layer",
    ]
    assert lines[1].endswith("| n/a |"), "not asked"
    assert lines[2].split(" | ")[1] == "n/a"


def test_without_a_demo_there_is_nothing_to_read(tmp_path, caplog):
    assert demo_incontext.main(["--demo", str(tmp_path)]) == 2
    assert "run `python -m jobs.demo` first" in caplog.text


def test_the_cells_are_those_with_induction_and_without_repeats():
    assert set(CELLS) == {name for name, one in SETTINGS.items() if one.induction and not one.repeats}
