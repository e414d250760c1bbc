"""`ray job submit` against a real cluster, started as the README tells."""

import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.runs import load_latest_state
from tests import tiny_models, tiny_spae
from tests.clusters import free_port

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
SMALL = (
    *("--model.network.base-channels", "8", "--model.network.channel-multipliers", "1", "1", "1"),
    *("--data.batch-size", "16", "--objective.semantic-weight", "0", "--steps", "6", "--workers", "2"),
)


@pytest.fixture(scope="module")
def head():
    """The dashboard's address of a head node of its own, which ends with the test; other clusters here live on."""
    ports = {name: free_port() for name in ("port", "dashboard-port", "dashboard-agent-listen-port")}
    options = [f"--{name}={port}" for name, port in ports.items()]
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    environment.pop("RAY_ADDRESS", None)
    options += ["--head", "--block", "--num-cpus=4", "--disable-usage-stats", f"--temp-dir={short_folder()}"]
    process = subprocess.Popen([RAY, "start", *options], env=environment, start_new_session=True)
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        wait_for(address, process)
        yield address, environment
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def short_folder():
    """Ray puts sockets below its folder, whose paths must stay under 107 bytes."""
    return f"/tmp/ray-{os.getpid()}-{free_port()}"


def wait_for(address, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the head node ended"
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=5)
            return
        except urllib.error.HTTPError:
            return  # it answers, and wants the token
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no dashboard at {address}")


def submit(head, *command):
    address, environment = head
    job = [RAY, "job", "submit", "--address", address, "--working-dir", ".", "--", sys.executable, "-m", *command]
    done = subprocess.run(job, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_train_and_tokenize_as_submitted_jobs(head, tmp_path):
    tiny_models.save_digit_split(tmp_path / "train", "train", limit=40)
    tiny_spae.vocabulary(words=60, width=24).save(str(tmp_path / "vocabulary"))
    run, model, tokens = tmp_path / "run", tmp_path / "model", tmp_path / "tokens"
    inputs = ("--shards", f"{tmp_path}/train", "--vocabulary", f"{tmp_path}/vocabulary", "--run", str(run))
    status, printed = submit(head, "jobs.train", "digits-32", *inputs, *SMALL)
    assert status == 0, printed
    assert "step 6/6" in printed or load_latest_state(str(run))["step"] == 6
    status, printed = submit(head, "jobs.export", "--run", str(run), "--output", str(model))
    assert status == 0, printed
    flags = ("--model", str(model), "--input", f"{tmp_path}/train", "--output", str(tokens), "--workers", "2")
    status, printed = submit(head, "jobs.tokenize_shards", *flags)
    assert status == 0, printed
    assert pq.read_table(tokens / "train-000000.parquet").num_rows == 40
    status, printed = submit(head, "jobs.tokenize_shards", *flags[:2], "--input", "/nowhere", *flags[4:])
    assert status != 0
    assert "/nowhere" in printed
