"""Scoring whose process is killed by SIGKILL: the figures are those of an undisturbed run, nothing is done twice."""

import json
import signal
import subprocess
import sys
import time

import pytest
import safetensors.torch

from tests.tiny_shards import samples, write_split

pytestmark = pytest.mark.slow
SHARDS = 12
FLAGS = ("--judges", "tiny", "--codecs", "webp", "--batch", "4", "--examples", "1", "--references")


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return write_split(tmp_path_factory.mktemp("split"), [samples(20, seed) for seed in range(SHARDS)])


def start(model, split, folder):
    """The command as a process of its own."""
    command = [sys.executable, "-m", "jobs.evaluate", "--model", model, "--shards", split, *FLAGS]
    command += [str(folder / "references"), "--output", str(folder / "score.json")]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def finish(process):
    """What it says, where it must end well."""
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    return said


def parts(folder):
    """When each finished shard was written, and its bytes."""
    return {
        file.name: (file.stat().st_mtime_ns, file.read_bytes())
        for file in folder.glob("score.parts/*/test-*.safetensors")
    }


def sums(folder):
    """All tensors of all shards as bytes; a file's own bytes hold its metadata in any order."""
    return {
        (name, key): tensor.numpy().tobytes()
        for name, (_, data) in parts(folder).items()
        for key, tensor in safetensors.torch.load(data).items()
    }


def test_a_killed_run_ends_with_the_same_bits_and_scores_no_shard_again(model, split, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(model, split, whole))
    process, deadline = start(model, split, killed), time.monotonic() + 120
    while len(parts(killed)) < 3:
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finished = parts(killed)
    assert 3 <= len(finished) < SHARDS, "the kill came too late to show anything"
    assert not (killed / "score.json").exists()
    said = finish(start(model, split, killed))
    assert f"{len(finished)} of {SHARDS} shards are scored already" in said
    assert finished.items() <= parts(killed).items()
    assert sums(killed) == sums(whole)
    assert json.loads((killed / "score.json").read_text()) == json.loads((whole / "score.json").read_text())
