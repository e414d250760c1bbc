"""Runs whose processes are killed by SIGKILL, on a store that fails: the tables are those of an undisturbed run."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import fsspec
import psutil
import pytest
from gcp_storage_emulator.server import create_server
from ray.cluster_utils import Cluster

from spae.data.publishing import list_files, read_bytes
from spae.data.token_table import find_token_tables
from tests.clusters import free_port
from tests.jobs.conftest import head_node, short_folder
from tests.pipelines.conftest import use_store
from tests.pipelines.unsteady import UnsteadyProxy
from tests.tiny_shards import samples, write_split
from tests.tiny_tokens import tokenize_split

pytestmark = pytest.mark.slow
SHARDS = 8
FINISHED = "8 shards to tokenize with 48 samples; 0 are done"


class Gate:
    """Keeps the first upload of a table waiting: before the store has it, or after it and before it is acknowledged."""

    def __init__(self, moment: str) -> None:
        self.moment, self.reached, self._opened = moment, threading.Event(), threading.Event()

    def __call__(self, moment: str, body: bytes) -> None:
        if moment == self.moment and b"/test-0000" in body[:600] and not self.reached.is_set():
            self.reached.set()
            self._opened.wait(60)

    def wait(self, process: subprocess.Popen) -> None:
        deadline = time.monotonic() + 200
        while not self.reached.wait(0.1):
            assert process.poll() is None, "the run ended before it published anything"
            assert time.monotonic() < deadline

    def open(self) -> None:
        self._opened.set()


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    shards = [samples(6, seed) for seed in range(SHARDS)]
    shards[3][2] = (shards[3][2][0], b"broken", 1)
    return write_split(tmp_path_factory.mktemp("split"), shards)


@pytest.fixture(scope="module")
def expected(model, split, tmp_path_factory):
    """Bytes of tables and dead letters of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    tokenize_split(model, split, folder)
    return written(str(folder))


@pytest.fixture(scope="module")
def proxy():
    """A proxy before a bucket; processes of this module know no other store."""
    port = free_port()
    server = create_server("localhost", port, in_memory=True, default_bucket="bucket")
    server.start()
    with pytest.MonkeyPatch.context() as patch, UnsteadyProxy(port) as made:
        use_store(patch, made.port)
        patch.setenv("FSSPEC_GS_TOKEN", "anon")
        patch.setenv("FSSPEC_GS_ENDPOINT_URL", os.environ["STORAGE_EMULATOR_HOST"])
        yield made
    server.stop()


@pytest.fixture(scope="module")
def cluster(proxy):
    with head_node(sys.executable, dict(os.environ)) as environment:
        yield environment


def written(folder):
    """Bytes of the tables and dead letters in a folder."""
    fsspec.url_to_fs(folder)[0].invalidate_cache()
    names = {folder: "", f"{folder}/errors": "errors/"}
    return {
        f"{prefix}{name}": read_bytes(f"{place}/{name}")
        for place, prefix in names.items()
        for name in list_files(place)
        if name.startswith("test-")
    }


@contextmanager
def run(environment, model, split, output, *flags):
    """The command as a process, which is killed at the end if it still runs."""
    command = [sys.executable, "-m", "jobs.tokenize_shards", "--model", model, "--input", split, "--output", output]
    command += ["--batch", "4", "--max-error-share", "0.2", *flags]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def finish(process):
    """What a process says, which must end well."""
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("test-*.parquet")}


def test_a_killed_run_is_continued_and_opens_no_table_again(model, tmp_path, cluster):
    split = write_split(tmp_path / "split", [samples(40, seed) for seed in range(40)])
    output = tmp_path / "tokens"
    with run(cluster, model, split, str(output)):
        deadline = time.monotonic() + 300
        while len(times(output)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
    time.sleep(5)  # what was under way when the driver died may still be published
    before = times(output)
    assert 3 <= len(before) < 40, "the kill came too late to show anything"
    with run(cluster, model, split, str(output)) as process:
        said = finish(process)
    after = times(output)
    assert {name: after[name] for name in before} == before
    assert len(after) == 40
    assert f"skipped {40 * len(before)} that were done" in said
    manifest = json.loads((output / "manifest.json").read_text())
    assert (manifest["rows"], len(manifest["tables"])) == (1600, 40)


def test_a_driver_killed_before_during_and_after_a_publish(model, split, expected, proxy, cluster):
    output = "gs://bucket/driver"
    for moment in ("before", "after"):
        proxy.gate = Gate(moment)
        with run(cluster, model, split, output) as process:
            proxy.gate.wait(process)
            process.send_signal(signal.SIGKILL)
            process.wait()
            proxy.gate.open()
    proxy.gate = lambda moment, body: None
    before = written(output)
    assert before.items() <= expected.items(), "what stands there is whole"
    with run(cluster, model, split, output) as process:
        said = finish(process)
    assert written(output) == expected
    assert FINISHED not in said, "the tables of the killed runs were made again"
    assert len(find_token_tables(output)) == SHARDS


def encoders():
    """Processes below this one that hold the model; those that end while they are looked at are none."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::ShardEncoder"):
                yield process


def test_two_runs_at_once_an_actor_killed_and_a_store_that_fails(model, split, expected, proxy, cluster):
    output = "gs://bucket/twice"
    proxy.gate, proxy.status, proxy.period = Gate("before"), 0, 9
    try:
        with run(cluster, model, split, output) as one, run(cluster, model, split, output) as other:
            proxy.gate.wait(one)
            next(encoders()).send_signal(signal.SIGKILL)
            proxy.status = 503
            proxy.gate.open()
            for process in (one, other):
                finish(process)
    finally:
        proxy.period = 0
    assert proxy.refused
    assert written(output) == expected


def test_a_node_that_is_lost_with_its_actor(model, split, expected, proxy, monkeypatch):
    output = "gs://bucket/node"
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "temp_dir": short_folder()})
    try:
        node = cluster.add_node(num_cpus=1)
        proxy.gate = Gate("before")
        with run({**os.environ, "RAY_ADDRESS": cluster.address}, model, split, output, "--workers", "2") as process:
            proxy.gate.wait(process)
            (raylet,) = [info.process for info in node.all_processes["raylet"]]
            os.kill(raylet.pid, signal.SIGKILL)
            proxy.gate.open()
            finish(process)
    finally:
        cluster.shutdown()
    assert written(output) == expected
