import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from jobs import export, train
from jobs.runs import RunRecord, load_latest_state, read_history
from spae.model import SPAE
from tests import tiny_models, tiny_spae

SMALL = [
    *("--model.network.base-channels", "8", "--model.network.channel-multipliers", "1", "1", "1"),
    *("--data.batch-size", "16", "--log-every", "2", "--objective.semantic-weight", "0"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Digits, and a vocabulary without semantics."""
    made = tmp_path_factory.mktemp("training")
    tiny_models.save_digit_split(made / "train", "train", limit=40)
    tiny_models.save_digit_split(made / "val", "val", limit=10)
    tiny_spae.vocabulary(words=60, width=24).save(str(made / "vocabulary"))
    return made


def flags(folder, run, *more, steps=6):
    inputs = ["--shards", f"{folder}/train", "--val-shards", f"{folder}/val", "--vocabulary", f"{folder}/vocabulary"]
    return ["digits-32", *inputs, "--run", str(run), "--steps", str(steps), *SMALL, *more]


def command(*arguments):
    return [sys.executable, "-m", "jobs.train", *arguments]


def test_a_dry_run_tells_the_plan_and_writes_nothing(folder, tmp_path, caplog):
    caplog.set_level("INFO")
    assert train.main(flags(folder, tmp_path / "run", "--dry-run")) == 0
    assert "40 samples, 60 words; 6 steps of 16 samples (2.4 epochs) on 1 workers" in caplog.text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--objective.semantic-weight", "1"], "needs --clip"),
        (["--objective.semantic-weight", "1", "--clip", "ViT-B-32"], "holds no semantics"),
        (["--vocabulary", "/nowhere"], "/nowhere"),
        (["--shards", "/nowhere"], "does not exist"),
        (["--workers", "3"], "must be divisible by ranks x loader workers = 3"),
        (["--data.streams", "7", "--workers", "2"], "data.streams=7"),
    ],
)
def test_unusable_arguments_are_one_clear_error(folder, tmp_path, caplog, change, message):
    assert train.main(flags(folder, tmp_path / "run", *change)) == 2
    assert message in caplog.text
    assert not (tmp_path / "run").exists()


def test_a_misspelt_flag_is_named(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(flags(folder, tmp_path / "run", "--learning-rat", "1"))
    assert stopped.value.code == 2
    assert "learning-rate" in capsys.readouterr().err


def test_a_run_of_other_settings_is_refused_and_replaced_on_request(folder, tmp_path, caplog):
    run = tmp_path / "run"
    parse = train.parse_flags
    train.prepare(parse(flags(folder, run)))
    train.prepare(parse(flags(folder, run)))  # the same settings claim it again
    assert train.main(flags(folder, run, "--seed", "5")) == 2
    assert "other settings (seed)" in caplog.text
    train.prepare(parse(flags(folder, run, "--seed", "5", "--replace")))
    assert RunRecord.load(str(run)).config.seed == 5


@pytest.mark.slow
def test_two_workers_train_and_the_export_loads(folder, tmp_path):
    run = tmp_path / "run"
    arguments = flags(folder, run, "--workers", "2", "--checkpoint-every", "4")
    assert subprocess.call(command(*arguments)) == 0
    history = read_history(str(run))
    assert [row["step"] for row in history] == [2, 4, 6]
    assert history[-1]["validation_psnr"] > 5
    assert {"pixel", "commitment", "latent_radius/5", "perplexity/1", "top_share/5", "words/5"} <= set(history[0])
    assert sorted(path.name for path in run.glob("step-*")) == ["step-00000004", "step-00000006"]
    assert load_latest_state(str(run))["step"] == 6
    before = (run / "history.jsonl").stat().st_mtime_ns
    assert subprocess.call(command(*arguments)) == 0  # nothing is left to do
    assert (run / "history.jsonl").stat().st_mtime_ns == before
    assert export.main(["--run", str(run), "--output", str(tmp_path / "model")]) == 0
    model = SPAE.from_pretrained(str(tmp_path / "model"))
    assert model.encode(torch.zeros(2, 3, 32, 32)).grids == model.config.grids


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_weights(folder, tmp_path):
    arguments = ["--workers", "2", "--checkpoint-every", "5"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert subprocess.call(command(*flags(folder, whole, *arguments, steps=25))) == 0
    process = subprocess.Popen(command(*flags(folder, killed, *arguments, steps=25)), start_new_session=True)
    deadline = time.monotonic() + 240
    while not (killed / "step-00000005/state.pt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert subprocess.call(command(*flags(folder, killed, *arguments, steps=25))) == 0
    one, other = (load_latest_state(str(run)) for run in (whole, killed))
    assert one["step"] == other["step"] == 25
    assert one["position"] == other["position"]
    for name, tensor in one["average"].items():
        assert torch.equal(tensor, other["average"][name]), name


def test_an_export_without_a_run_is_named(tmp_path, caplog):
    assert export.main(["--run", str(tmp_path), "--output", str(tmp_path / "model")]) == 2
    assert "holds no config.json" in caplog.text


def test_an_export_before_the_first_checkpoint_is_named(folder, tmp_path, caplog):
    train.prepare(train.parse_flags(flags(folder, tmp_path / "run")))
    assert export.main(["--run", str(tmp_path / "run"), "--output", str(tmp_path / "model")]) == 2
    assert "no checkpoint yet" in caplog.text


def test_the_record_of_a_run_survives_json(folder, tmp_path):
    train.prepare(train.parse_flags(flags(folder, tmp_path / "run")))
    record = RunRecord.load(str(tmp_path / "run"))
    assert not record.differences(record)
    assert json.loads(record.to_json())["format_version"] == 1
    assert record.config.model.embedding_width == 24
    assert record.semantics_fingerprint is None
