"""Inputs of small trainings, and a Ray cluster as the README starts it, which the slow tests share: it costs 15 s."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from tests import tiny_models, tiny_spae
from tests.clusters import free_port
from tests.photographs import photographs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Digits, and a vocabulary without semantics."""
    made = tmp_path_factory.mktemp("training")
    tiny_models.save_digit_split(made / "train", "train", limit=40)
    tiny_models.save_digit_split(made / "val", "val", limit=10)
    tiny_spae.vocabulary(words=60, width=24).save(str(made / "vocabulary"))
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a random tokenizer."""
    made = tmp_path_factory.mktemp("model")
    tiny_spae.model().save_pretrained(str(made))
    return str(made)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three real photographs as files."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, pixels in enumerate(photographs()):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="session")
def cluster_environment():
    """The environment in which `ray job submit` and our commands find a head node of its own; others live on."""
    with head_node(sys.executable, dict(os.environ)) as environment:
        yield environment


@contextlib.contextmanager
def head_node(python, environment, **options):
    """A head node that a Python runs, for as long as the block; yields the environment that leads to it."""
    ports = {name: free_port() for name in ("port", "dashboard-port", "dashboard-agent-listen-port")}
    flags = [f"--{name}={port}" for name, port in ports.items()]
    environment = {**environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    environment |= {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    environment.pop("RAY_ADDRESS", None)
    flags += ["--head", "--block", "--num-cpus=3", "--disable-usage-stats", f"--temp-dir={short_folder()}"]
    command = [python, "-m", "ray.scripts.scripts", "start", *flags]
    process = subprocess.Popen(command, env=environment, start_new_session=True, **options)
    dashboard = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        wait_for(dashboard, process)
        yield {
            **environment,
            "RAY_ADDRESS": f"127.0.0.1:{ports['port']}",
            "RAY_API_SERVER_ADDRESS": dashboard,
        }
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def submit(environment, python, *command, folder=ROOT):
    """Submit one of our commands with the checkout, from a folder; its exit status and what was printed."""
    submitted = {name: value for name, value in environment.items() if name != "RAY_ADDRESS"}  # a job has its own
    job = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", str(ROOT)]
    job += ["--address", environment["RAY_API_SERVER_ADDRESS"], "--", python, "-m", *command]
    done = subprocess.run(job, cwd=folder, env=submitted, capture_output=True, text=True, timeout=400)
    return done.returncode, done.stdout + done.stderr


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
