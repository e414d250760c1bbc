"""Pictures drawn by the command: rows, pictures, measures, and a run that is cut."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import LlamaConfig

from jobs import harness
from jobs.episodes.drawing import PictureJudge
from jobs.episodes.pictures import SplitPictures
from spae.incontext.episodes import DRAWN_SCHEMA
from spae.model import SPAE
from spae.pyramid import TokenPyramid
from tests.jobs.episodes.runs import arguments, rows, run
from tests.tiny_causal import SIZES, save_causal
from tests.tiny_shards import CLASSES

CLASSES_TASK = ("--task", "draw-classes", "--settings", "1-shot", "--queries", "3")
MENDING = ("--task", "denoise", "--settings", "rotation-same-picture", "--queries", "2")


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    return save_causal(tmp_path_factory.mktemp("llm"), LlamaConfig(**{**SIZES, "max_position_embeddings": 4096}))


def test_every_drawing_is_a_row_with_words_and_picture(folder, model, llm, tmp_path, capsys):
    assert run(folder, model, tmp_path, *CLASSES_TASK, "--episodes", "2", "--llm", llm) == 0
    place = tmp_path / "draw-classes/1-shot"
    assert sorted(path.name for path in place.iterdir()) == [
        f"episodes-00000{number}.{suffix}" for number in range(2) for suffix in ("parquet", "png")
    ]
    assert pq.read_schema(place / "episodes-000000.parquet").remove_metadata() == DRAWN_SCHEMA
    loaded, found = SPAE.from_pretrained(model), rows(tmp_path)
    assert [row["target"] for row in found[:3]] != []
    for row in found:
        assert row["error"] is None
        pyramid = TokenPyramid.from_flat(torch.tensor([row["ids"]]), loaded.config.grids)
        rebuilt = (loaded.decode(pyramid)[0] * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.abs(np.asarray(Image.open(io.BytesIO(row["png"]))).astype(int) - rebuilt).max() <= 1
        assert row["score"] == (row["parsed"] == row["target"])
        assert 0 <= dict(row["measures"])["copied"] <= 1
    scores = json.loads((tmp_path / "summary.json").read_text())["draw-classes"]["1-shot"]
    assert scores["invalid"] == scores["foreign"] == 0
    assert scores["nearest_example"] > 0
    output = capsys.readouterr().out
    assert "chance 33.3%" in output
    assert "the judge is right of 100.0% of real" in output


def test_the_reference_copies_an_example_of_the_class(folder, model, tmp_path):
    assert run(folder, model, tmp_path, *CLASSES_TASK, "--stride", "0") == 0
    for row in rows(tmp_path):
        assert f"C: an image of {row['target']}\nQ:\nA: {row['answer']}\n" in row["prompt"]
    scores = json.loads((tmp_path / "summary.json").read_text())["draw-classes"]["1-shot"]
    assert (scores["copied"], scores["nearest_example"]) == (1.0, 0.0)


def test_mending_is_measured_against_the_picture(folder, model, tmp_path):
    assert run(folder, model, tmp_path, *MENDING, "--drawn-layers", "2", "--known-layers", "1", "--stride", "0") == 0
    for row in rows(tmp_path):
        assert len(row["ids"]) == 5
        assert set(dict(row["measures"])) == {"copied", "foreign", "invalid", "nearest_example", "psnr", "right_words"}


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_rows(folder, model, llm, tmp_path):
    flags = (*CLASSES_TASK, "--episodes", "6", "--llm", llm)
    assert run(folder, model, tmp_path / "whole", *flags) == 0
    cut = tmp_path / "cut"
    command = [sys.executable, "-m", "jobs.incontext", *arguments(folder, model, cut, *flags)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while process.poll() is None and not list(cut.rglob("*.parquet")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run(folder, model, cut, *flags) == 0
    assert rows(cut) == rows(tmp_path / "whole")


def test_another_way_of_drawing_is_another_run(folder, model, tmp_path, caplog):
    assert run(folder, model, tmp_path, *CLASSES_TASK, "--stride", "0") == 0
    assert run(folder, model, tmp_path, *CLASSES_TASK, "--stride", "4") == 2
    assert "has stride 0, and this run has 4; give another --output" in caplog.text


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((*CLASSES_TASK, "--settings", "1-shot-sum"), f"class {CLASSES[0]!r} is none of zero"),
        ((*CLASSES_TASK, "--candidates", "2"), "all the same at temperature 0"),
        ((*MENDING, "--known-layers", "4"), "words are known, which are not the first"),
        ((*MENDING, "--drawn-layers", "5"), "layers"),
    ],
)
def test_what_cannot_be_drawn_is_told_at_once(folder, model, tmp_path, caplog, flags, told):
    assert run(folder, model, tmp_path, *flags) == 2
    assert told in caplog.text


@pytest.mark.parametrize("flags", [("--closed",), ("--llm", "raw-pixels")])
def test_flags_of_reading_are_refused(folder, model, tmp_path, capsys, flags):
    with pytest.raises(SystemExit):
        run(folder, model, tmp_path, *CLASSES_TASK, *flags)
    assert "takes neither --llm" in capsys.readouterr().err


def test_the_plan_counts_all_segments(folder, model, tmp_path, caplog, capsys):
    assert run(folder, model, tmp_path, *CLASSES_TASK, "--episodes", "2", "--parallel-layers", "0", "--dry-run") == 0
    assert f"{2 * 3 * (1 + 1 + 4 + 4)} queries to ask" in caplog.text
    assert "C: an image of" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_other_harnesses_take_no_drawing(folder, model, tmp_path, caplog):
    flags = arguments(folder, model, tmp_path, *CLASSES_TASK)
    llm = flags.index("--llm")
    assert harness.main([*flags[:llm], *flags[llm + 2 :]]) == 2
    assert "--task draw-classes draws pictures" in caplog.text


def test_the_judge_is_right_of_real_pictures(folder):
    pictures = SplitPictures(str(folder / "train"), (16, 16))
    names = {key: key.split("-")[1] for key in pictures.keys}
    judge = PictureJudge(pictures, names)
    assert judge(pictures.read(pictures.keys)) == list(names.values())
