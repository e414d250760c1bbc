"""Tables of the paper on small splits: three classes, whose words say them, read by the reference without weights."""

import json

import pytest

from jobs import incontext, reproduce
from jobs.reproductions import REPRODUCTIONS
from spae.incontext.prompts import SETTINGS
from spae.incontext.published import TABLE_1
from tests.jobs.test_incontext import pictures
from tests.tiny_shards import write_split


@pytest.fixture(scope="module")
def places(tmp_path_factory, model):
    root = tmp_path_factory.mktemp("splits")
    write_split(root / "train", [pictures(5, "a")], "train")
    write_split(root / "test", [pictures(4, "b")])
    return ("--model", model, "--shards", str(root / "test"), "--support-shards", str(root / "train"))


def run(table, output, *flags, llm="nearest-context"):
    return reproduce.main([table, "--output", str(output), "--llm", llm, "--episodes", "3", *flags])


def cells(output, name):
    document = json.loads((output / f"{name}.json").read_text())
    return {(cell["layers"], cell["column"]): cell for cell in document["cells"]}


@pytest.fixture(scope="module")
def table_1(places, tmp_path_factory):
    output = tmp_path_factory.mktemp("paper")
    assert run("tab1", output, *places) == 0
    return output


def test_every_cell_of_tab_1_has_our_figure_the_papers_and_the_difference(table_1):
    found = cells(table_1, "tab1")
    columns = [*SETTINGS, "mean of 2-way settings", "mean of 5-way settings"]
    assert list(found) == [(layers, column) for layers in (2, 3) for column in columns]
    cell = found[2, "2-way-3-shot"]
    assert (cell["value"], cell["low"], cell["high"], cell["count"], cell["reason"]) == (100, 100, 100, 24, "")
    assert cell["differences"] == pytest.approx({"SPAE_GPT": 15.6, "SPAE_PaLM": 11.5})
    for row in TABLE_1[2:]:
        for setting, percent in row.percents.items():
            assert found[row.layers, setting]["published"][row.system] == percent
        for ways, percent in row.averages.items():
            assert found[row.layers, f"mean of {ways}-way settings"]["published"][row.system] == percent


def test_what_cannot_be_made_is_n_a_with_its_reason(table_1):
    found = cells(table_1, "tab1")
    cell = found[2, "5-way-1-shot"]
    assert (cell["value"], cell["differences"]) == (None, {})
    assert "3 classes have a name" in cell["reason"]
    assert found[2, "mean of 5-way settings"]["reason"] == "not all settings have a figure"
    assert "| 5-way-1-shot | n/a | 3 classes have a name" in (table_1 / "tab1.md").read_text()


def test_both_protocols_stand_above_the_figures(table_1, places):
    text = (table_1 / "tab1.md").read_text()
    assert "OpenAI shut down GPT 3.5 (text-davinci-003) on 4 January 2024" in text
    assert "| language model | GPT 3.5 (text-davinci-003) (SPAE_GPT), PaLM 2-L (SPAE_PaLM) | nearest-context, " in text
    assert f"| {places[3]} and {places[5]} |" in text
    assert "| 2-way-3-shot | 100.0 | 100.0 to 100.0 | 24 | 84.4 | +15.6 | 88.5 | +11.5 |" in text


def test_figures_are_those_of_the_command_by_itself_and_its_rows_stay(table_1, places, tmp_path):
    flags = ("--llm", "nearest-context", "--episodes", "3", "--task", "few-shot-real", "--settings", "2-way-1-shot")
    assert incontext.main([*places, *flags, "--output", str(tmp_path)]) == 0
    alone = json.loads((tmp_path / "summary.json").read_text())["few-shot-real"]["2-way-1-shot"]
    assert cells(table_1, "tab1")[2, "2-way-1-shot"]["value"] == 100 * alone["mean"]
    times = {file: file.stat().st_mtime_ns for file in table_1.rglob("*.parquet")}
    assert run("tab1", table_1, *places) == 0
    assert times == {file: file.stat().st_mtime_ns for file in table_1.rglob("*.parquet")}


def test_figure_3_goes_as_far_as_the_model_has_layers(places, tmp_path):
    assert run("fig3", tmp_path, *places) == 0
    found = cells(tmp_path, "fig3")
    assert [found[layers, "2-way-1-shot"]["value"] for layers in (2, 3, 4)] == [100.0] * 3
    assert found[6, "2-way-1-shot"]["reason"] == "layers=6 is outside 1 to 4"
    assert found[5, "5-way-1-shot"]["published"] == {"SPAE_PaLM": 46.3}
    assert (tmp_path / "fig3.png").read_bytes().startswith(b"\x89PNG")
    assert "](fig3.png)" in (tmp_path / "fig3.md").read_text()


def test_other_layers_and_another_task_can_be_asked_for(places, tmp_path):
    assert run("tab1", tmp_path, *places, "--layers", "1", "--task", "few-shot-made-up", "--seed", "7") == 0
    assert {layers for layers, _ in cells(tmp_path, "tab1")} == {1}
    assert json.loads((tmp_path / "layers-1" / "summary.json").read_text())["protocol"]["seed"] == 7


def test_unanswered_questions_are_told_and_end_with_status_1(places, tmp_path):
    settings = ("--settings", "2-way-1-shot", "--layers", "2", "--form", "frozen")  # which nearest-context cannot read
    assert run("tab1", tmp_path, *places, *settings) == 1
    cell = cells(tmp_path, "tab1")[2, "2-way-1-shot"]
    assert (cell["value"], cell["reason"]) == (0.0, "24 without an answer count as wrong")


@pytest.mark.parametrize(
    ("table", "flags", "message"),
    [
        ("tab1", ("--llm", "/nowhere.gguf"), "there is no language model at '/nowhere.gguf'"),
        ("tab3", (), "is on released files: give --data, a folder for --task real-fast-vqa"),
    ],
)
def test_what_does_not_fit_is_one_clear_error_and_writes_no_table(places, tmp_path, caplog, table, flags, message):
    assert run(table, tmp_path, *places, *flags) == 2
    assert message in caplog.text
    assert not list(tmp_path.glob("*.*"))


@pytest.mark.parametrize(("table", "flags"), [("tab9", ()), ("tab1", ("--episods", "4"))])
def test_a_misspelt_table_or_flag_is_named(places, tmp_path, capsys, table, flags):
    with pytest.raises(SystemExit, match="2"):
        run(table, tmp_path, *places, *flags)
    told = " ".join("".join(capsys.readouterr()).replace("│", " ").split())  # wrapped where the terminal ends
    assert {"tab9": f"none of {', '.join(REPRODUCTIONS)}", "tab1": "--episodes"}[table] in told


def test_a_dry_run_asks_nothing(places, tmp_path, caplog):
    assert run("tab1", tmp_path, *places, "--dry-run") == 0
    assert "queries to ask of nearest-context" in caplog.text
    assert not list(tmp_path.iterdir())
