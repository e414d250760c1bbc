"""Whole runs on a real cluster: submitted with `ray job submit`, or killed half-way and continued."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from jobs import export
from jobs.training.run_folder import load_latest_state, read_history
from spae.model import SPAE
from tests import tiny_spae

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SMALL = (*tiny_spae.SMALL_DIGITS, "--steps", "25", "--workers", "2", "--checkpoint-every", "5", "--log-every", "5")


def training(folder, name):
    inputs = ("--shards", f"{folder}/train", "--val-shards", f"{folder}/val", "--vocabulary", f"{folder}/vocabulary")
    return ("jobs.train", "digits-32", *inputs, "--run", f"{folder}/{name}", *SMALL)


def submit(environment, *command):
    submitted = {name: value for name, value in environment.items() if name != "RAY_ADDRESS"}  # a job has its own
    ray = Path(sys.executable).with_name("ray")
    job = [ray, "job", "submit", "--address", environment["RAY_API_SERVER_ADDRESS"], "--working-dir", "."]
    job += ["--", sys.executable, "-m", *command]
    done = subprocess.run(job, cwd=ROOT, env=submitted, capture_output=True, text=True, timeout=400)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def whole(folder, cluster_environment):
    """A submitted training of two workers."""
    status, printed = submit(cluster_environment, *training(folder, "whole"))
    assert status == 0, printed
    return folder / "whole"


@pytest.fixture(scope="module")
def model(folder, whole):
    """Its exported model."""
    assert export.main(["--run", str(whole), "--output", f"{folder}/model"]) == 0
    return folder / "model"


def test_a_submitted_training_leaves_history_and_checkpoints(folder, whole, cluster_environment):
    history = read_history(str(whole))
    assert [row["step"] for row in history] == [5, 10, 15, 20, 25]
    assert history[-1]["validation_psnr"] > 5
    assert {"pixel", "commitment", "latent_radius/5", "perplexity/1", "top_share/5", "words/5"} <= set(history[0])
    assert sorted(path.name for path in whole.glob("step-*"))[-1] == "step-00000025"
    before = (whole / "history.jsonl").stat().st_mtime_ns
    again = [sys.executable, "-m", *training(folder, "whole")]
    assert subprocess.call(again, env=cluster_environment) == 0  # nothing is left to do
    assert (whole / "history.jsonl").stat().st_mtime_ns == before


def test_a_killed_run_continues_to_the_same_weights(folder, whole, cluster_environment):
    command = [sys.executable, "-m", *training(folder, "killed")]
    process = subprocess.Popen(command, env=cluster_environment, start_new_session=True)
    deadline = time.monotonic() + 240
    while not (folder / "killed/step-00000005/state.pt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "killed/finished.json").exists()
    assert subprocess.call(command, env=cluster_environment) == 0
    one, other = (load_latest_state(str(run)) for run in (whole, folder / "killed"))
    assert one["step"] == other["step"] == 25
    assert one["position"] == other["position"]
    for name, tensor in one["average"].items():
        assert torch.equal(tensor, other["average"][name]), name


def test_a_sick_codebook_ends_the_run_where_asked(folder, cluster_environment):
    """Latents that are not brought to the table's statistics lie where they will."""
    sick = (*training(folder, "sick"), "--model.latent-statistics", "none", "--abort-on", "collapse")
    done = subprocess.run([sys.executable, "-m", *sick], env=cluster_environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.match(r"training failed: layer \d", done.stderr.splitlines()[-1])
    assert load_latest_state(f"{folder}/sick")["step"] < 25
    assert not (folder / "sick/finished.json").exists()


def test_the_export_loads(model):
    loaded = SPAE.from_pretrained(str(model))
    assert loaded.encode(torch.zeros(2, 3, 32, 32)).grids == loaded.config.grids


def test_a_submitted_tokenizing_job(folder, model, cluster_environment):
    flags = ("--model", str(model), "--output", f"{folder}/tokens", "--workers", "2")
    status, printed = submit(cluster_environment, "jobs.tokenize_shards", *flags, "--input", f"{folder}/train")
    assert status == 0, printed
    assert pq.read_table(folder / "tokens/train-000000.parquet").num_rows == 40
