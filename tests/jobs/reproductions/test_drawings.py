"""Figures of drawn pictures, drawn by the reference without weights: cells, notes, and a picture of each way."""

import io
import json

import pytest
from PIL import Image

from jobs import reproduce
from tests.jobs.episodes.runs import save_splits


@pytest.fixture(scope="module")
def flags(tmp_path_factory, model):
    splits = save_splits(tmp_path_factory.mktemp("splits"))
    places = ("--model", model, "--shards", str(splits / "test"), "--support-shards", str(splits / "train"))
    return (*places, "--llm", "nearest-context", "--episodes", "1", "--queries", "2", "--drawn-layers", "2")


def reproduced(name, output, *flags):
    assert reproduce.main([name, "--output", str(output), *flags]) == 0
    return {cell["column"]: cell for cell in json.loads((output / f"{name}.json").read_text())["cells"]}


def test_each_stride_is_a_cell_and_a_panel(flags, tmp_path):
    found = reproduced("fig7", tmp_path, *flags)
    assert [column for column in found if column.startswith("rotation")] == [
        f"rotation-same-picture: {way}" for way in ("one-pass", "stride-16", "stride-4")
    ]
    one = found["outpainting-same-picture: stride-4"]
    summary = json.loads((tmp_path / "stride-4/summary.json").read_text())["denoise"]["outpainting-same-picture"]
    assert (one["value"], one["low"], one["high"], one["count"]) == (
        *(summary[name] for name in ("psnr", "psnr_low", "psnr_high")),
        1,
    )
    assert summary["psnr_low"] <= summary["psnr"] <= summary["psnr_high"]
    text = (tmp_path / "fig7.md").read_text()
    assert "prints no numbers" in text
    assert "layer" not in text.partition("fig7.png")[2]
    assert Image.open(io.BytesIO((tmp_path / "fig7.png").read_bytes())).width > 600


def test_baselines_draw_the_same_by_their_own_words(flags, model, tmp_path):
    found = reproduced("fig9", tmp_path, *flags, "--baselines", "VQ", model)
    assert len(found) == 4
    assert found["deblurring-same-picture: vq-stride-4"]["value"] == found["deblurring-same-picture: stride-4"]["value"]
    assert json.loads((tmp_path / "vq-stride-4/summary.json").read_text())["protocol"]["unconstrained"]


@pytest.mark.parametrize(("name", "more"), [("fig9", ()), ("fig2", ("--baselines", "VQ", "folder"))])
def test_baselines_are_asked_for_where_they_mean_something(flags, tmp_path, caplog, name, more):
    assert reproduce.main([name, "--output", str(tmp_path), *flags, *more]) == 2
    assert "--baselines" in caplog.text
