"""Workers on a real cluster of this machine: the same rows from any number of them, also where they die."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from transformers import LlamaConfig

from jobs.cluster import lend_cluster
from tests.completions_server import serving
from tests.jobs.conftest import submit
from tests.jobs.episodes.runs import arguments, rows, run
from tests.tiny_causal import SIZES, save_causal

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """The variables that lead another process to it."""
    with lend_cluster(num_cpus=3) as environment:
        yield {**os.environ, **environment}


def test_any_number_of_workers_gives_the_same_rows(folder, model, cluster, tmp_path):
    llm = save_causal(tmp_path / "llm", LlamaConfig(**SIZES))
    flags = ("--llm", llm, "--episodes", "60", "--queries", "2", "--layers", "1")
    for workers in (0, 1, 3):
        assert run(folder, model, tmp_path / str(workers), *flags, "--workers", workers) == 0
    assert rows(tmp_path / "0") == rows(tmp_path / "1") == rows(tmp_path / "3")
    assert len(rows(tmp_path / "0")) == 120


def workers_of(process):
    return [child for child in process.children(recursive=True) if "ModelActor" in " ".join(child.cmdline())]


def test_a_worker_that_is_killed_asks_again_from_another_process(folder, model, cluster, tmp_path):
    killed = []
    with serving() as server:
        server.faults = ["slow"] * 400

        def kill():
            while len(server.requests) < 10:
                time.sleep(0.02)
            for worker in workers_of(psutil.Process()):
                worker.send_signal(signal.SIGKILL)
                killed.append(len(server.requests))

        killer = threading.Thread(target=kill)
        killer.start()
        flags = ("--llm", server.url, "--llm-name", "tiny", "--workers", "1", "--concurrency", "4")
        status = run(folder, model, tmp_path, *flags, "--episodes", "10")
        killer.join()
        asked = len(server.requests)
    assert status == 0
    assert len(killed) == 1
    found = rows(tmp_path)
    assert len(found) == 80
    assert not any(row["error"] for row in found)
    assert asked > len({row["prompt"] for row in found}), "what was under way was asked again"


def test_a_killed_run_is_continued(folder, model, cluster, tmp_path):
    with serving() as server:
        server.faults = ["slow"] * 2_000
        flags = ("--llm", server.url, "--llm-name", "tiny", "--workers", "2", "--concurrency", "4", "--queries", "1")
        whole = arguments(folder, model, tmp_path / "cut", *flags, "--episodes", "200")
        command = [sys.executable, "-m", "jobs.incontext", *whole]
        process = subprocess.Popen(command, env=cluster, start_new_session=True)
        deadline = time.monotonic() + 200
        while len(list(tmp_path.rglob("*.parquet"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
        assert 2 <= len(before) < 8, "the kill came too late to show anything"
        server.faults = []
        assert subprocess.run(command, env=cluster, check=False).returncode == 0
        assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in before.items())
        assert run(folder, model, tmp_path / "whole", *flags, "--workers", "0", "--episodes", "200") == 0
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_a_submitted_run(folder, model, tmp_path, cluster_environment):
    flags = arguments(folder, model, tmp_path, "--workers", "2", "--episodes", "30")
    status, printed = submit(cluster_environment, sys.executable, "jobs.incontext", *flags)
    assert status == 0, printed
    assert len(rows(tmp_path)) == 240
    relative = [flag if flag != str(tmp_path) else "runs/incontext" for flag in flags]
    status, printed = submit(cluster_environment, sys.executable, "jobs.incontext", *relative)
    assert status == 1
    assert "--output runs/incontext is relative, and a submitted job works in a temporary folder" in printed
