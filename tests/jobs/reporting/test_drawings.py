"""The page shows what was drawn: scores, the sheet as it was published, and a prompt whose text stays text."""

import base64

import pytest

from jobs.reporting.drawings import drawings_html, gather_drawings
from tests.jobs.episodes.runs import run, save_splits


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, model):
    output = tmp_path_factory.mktemp("drawings")
    splits = save_splits(output / "splits")
    flags = ("--task", "denoise", "--settings", "rotation", "--drawn-layers", "2", "--stride", "0", "--episodes", "2")
    assert run(splits, model, output / "runs/a<b", *flags, "--queries", "2") == 0
    return output / "runs"


def test_every_setting_has_its_scores_and_its_sheet(drawn):
    (one,) = gather_drawings(str(drawn))
    sheet = (drawn / "a<b/denoise/rotation/episodes-000000.png").read_bytes()
    text = drawings_html([one])
    assert base64.b64encode(sheet).decode() in text
    assert f"judged right {one.scores['mean']:.0%} [" in text
    assert f"{one.scores['psnr']:.1f} dB" in text
    assert "of 4, " in text


def test_names_are_no_markup(drawn):
    assert "a&lt;b: rotation" in drawings_html(gather_drawings(str(drawn)))


def test_without_drawings_there_is_no_section(tmp_path):
    assert gather_drawings(str(tmp_path)) == []
    assert drawings_html([]) == ""
