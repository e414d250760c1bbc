import json

import pytest

from jobs.reproductions import tab1
from jobs.reproductions.base import Cell, Inputs
from jobs.reproductions.pages import as_document, as_markdown
from spae.incontext.prompts import SETTINGS

HOSTILE = "a | b\n\n# c\r| d"


def test_no_text_adds_a_line_or_a_cell():
    cells = [Cell(layers=2, column="2-way-1-shot", reason=HOSTILE, published={"SPAE_GPT": 1.0})]
    tame, wild = (as_markdown(tab1.TABLE, cells, {"pictures": text}, None) for text in ("place", HOSTILE))
    assert tame.count("\n") == wild.count("\n")
    assert r"| n/a | a \| b # c \| d |" in wild
    for line in wild.splitlines():
        if "SPAE_GPT, %" in line or "n/a" in line:
            assert line.replace(r"\|", "").count("|") == 7


def test_the_document_is_json_with_every_cell():
    cells = [Cell(layers=2, column="x", value=50.0, low=40.0, high=60.0, count=8, published={"SPAE_GPT": 45.5})]
    document = json.loads(json.dumps(as_document("tab1", tab1.TABLE, cells, {"pictures": HOSTILE})))
    assert document["cells"][0]["differences"] == {"SPAE_GPT": 4.5}
    assert document["protocol"]["here"]["pictures"] == HOSTILE


def test_the_interval_of_a_mean_holds_even_where_settings_err_together():
    (run,) = tab1.TABLE.runs(Inputs(layers=(2,)))
    scores = {name: {"mean": 0.9, "low": 0.7, "high": 1.0, "n": 10, "errors": 0} for name in SETTINGS}
    *_, cell = tab1.TABLE.cells(run, {"protocol": {"task": "few-shot-real"}, "few-shot-real": scores}, "")
    assert (cell.column, cell.value, cell.count) == ("mean of 5-way settings", pytest.approx(90), 70)
    assert cell.low == pytest.approx(70)
