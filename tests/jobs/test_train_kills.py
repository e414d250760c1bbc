"""Trainings whose workers are killed by SIGKILL, and whose nodes go and come: nothing is lost, the run is the same."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from jobs import train
from jobs.cluster import connect
from jobs.training import launch
from jobs.training.run_folder import latest_checkpoint, load_latest_state, load_mark, read_history
from tests import tiny_spae
from tests.jobs.conftest import short_folder
from tests.jobs.dying import MOMENTS, dying_loop, slow_loop

pytestmark = pytest.mark.slow

ADVERSARY = (
    *("--objective.adversarial-weight", "0.1", "--objective.discriminator.base-channels", "4"),
    *("--objective.discriminator.channel-multipliers", "2", "2"),
)


def job(folder, run, *flags):
    inputs = ("--shards", f"{folder}/train", "--vocabulary", f"{folder}/vocabulary", "--run", str(run))
    described = ("digits-32", *inputs, *tiny_spae.SMALL_DIGITS, *ADVERSARY, "--log-every", "2", *flags)
    return train.prepare(train.parse_flags(described))


@pytest.fixture(scope="module")
def cluster():
    connect("local", num_cpus=3)
    yield
    ray.shutdown()


def trained(folder, run, moment=None):
    """The sha256 of the last state of a training of two workers, one of which dies."""
    described = job(folder, run, "--steps", "8", "--checkpoint-every", "3")
    if moment:
        (run / "moment").write_text(moment)
    launch.train_on_cluster(described, 2, max_failures=2)
    assert not (run / "moment").exists()
    assert [row["step"] for row in read_history(str(run))] == [2, 4, 6, 8]
    name = latest_checkpoint(str(run))
    assert name == "step-00000008"
    load_latest_state(str(run))  # which verifies it
    return load_mark(str(run), name).sha256


@pytest.fixture(scope="module")
def undisturbed(folder, cluster, tmp_path_factory):
    return trained(folder, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_worker_changes_no_bit(folder, undisturbed, tmp_path, monkeypatch, moment):
    """Of weights, averages, both optimizers, LeCAM's averages, and of the position; no step draws from a generator."""
    monkeypatch.setattr(launch, "train_loop", dying_loop)
    assert trained(folder, tmp_path / "run", moment) == undisturbed


def test_a_run_goes_on_when_nodes_go_and_come(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "train_loop", slow_loop)
    monkeypatch.setattr(launch, "RESIZE_SECONDS", 5.0)
    ray.shutdown()
    head = {"num_cpus": 1, "temp_dir": short_folder()}
    run, cluster = tmp_path / "run", Cluster(initialize_head=True, head_node_args=head)
    leaving = cluster.add_node(num_cpus=1)
    assert connect(cluster.address)
    described = job(folder, run, "--steps", "60", "--checkpoint-every", "4")

    try:
        with ThreadPoolExecutor(1) as pool:
            training = pool.submit(launch.train_on_cluster, described, (1, 3), max_failures=3)
            wait_for_step(run, 8)
            cluster.remove_node(leaving, allow_graceful=False)
            wait_for_worlds(run, 2)
            cluster.add_node(num_cpus=2)
            assert training.result()["step"] == 60
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert worlds(run) == [2, 1, 3]
    assert [row["step"] for row in read_history(str(run))] == list(range(2, 61, 2))
    assert load_latest_state(str(run))["step"] == 60


def worlds(run):
    return [int(line) for line in Path(run, "worlds").read_text().split()]


def wait_for_step(run, step):
    wait(lambda: int((latest_checkpoint(str(run)) or "step-0").removeprefix("step-")) >= step)


def wait_for_worlds(run, count):
    wait(lambda: len(worlds(run)) >= count)


def wait(reached):
    deadline = time.monotonic() + 200
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.5)
