"""The pool of tasks and actors on a real cluster of this machine, with actors that compute nothing."""

import itertools
import os
import signal
import time

import pytest
import ray

from jobs.cluster import connect
from jobs.tokens import pool as pools
from jobs.tokens.pool import CALLS, ActorPool, PoolSize

pytestmark = pytest.mark.slow
SIZE = PoolSize(least=2, most=2, actor_cpus=0.5, task_cpus=0.25)


@ray.remote(num_cpus=0.25, max_retries=1)
def doubled(number, folder):
    if number == 13 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 17:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


@ray.remote(num_cpus=0.25)
def paced(number, slowly):
    time.sleep(2 if slowly.exists() else 0)
    return number


@ray.remote(num_cpus=0.5, max_concurrency=2)
class Writer:
    def __init__(self, folder):
        self.folder = folder

    def add(self, number):
        if number == 14 and not (self.folder / "lost").exists():
            (self.folder / "lost").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 18:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05 if number >= 1_000 else 0)
        return number, os.getpid()


class Broken:
    def __init__(self):
        raise ValueError("no model here")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    connect("local", num_cpus=2)
    yield
    ray.shutdown()


def pool(folder, size=SIZE, **options):
    options = {"failed": lambda item, reason: (item, reason), **options}
    return ActorPool(lambda: Writer.remote(folder), "add", size, **options)


def test_items_go_through_task_and_actor_once_each_whatever_dies(tmp_path, monkeypatch):
    """A task and an actor are killed once and begun again; what kills them each time is told as failed, alone."""
    monkeypatch.setattr(pools, "ATTEMPTS", 2)
    made = pool(tmp_path, prepare=lambda number: doubled.remote(number, tmp_path))
    outcomes = list(made.run(range(20)))
    failed = {number: reason for number, reason in outcomes if isinstance(reason, str)}
    assert set(failed) == {9, 17}, "9 is 18 once it is doubled"
    assert "died" in failed[9]
    assert sorted(number for number, pid in outcomes if isinstance(pid, int)) == [
        2 * number for number in range(20) if number not in failed
    ]
    assert (tmp_path / "died").exists()
    assert (tmp_path / "lost").exists()


def test_items_are_taken_only_as_there_is_room(tmp_path):
    taken = itertools.count()
    outcomes = pool(tmp_path).run(100 + next(taken) for _ in range(10_000))
    for _ in range(50):
        next(outcomes)
    assert next(taken) <= 50 + 2 * CALLS + 2
    outcomes.close()


def test_heavy_items_pass_one_by_one(tmp_path):
    taken = itertools.count()
    numbers = (100 + next(taken) for _ in range(5))
    made = pool(tmp_path, prepare=lambda number: doubled.remote(number, tmp_path), weight=lambda item: 1 << 50)
    for finished, _ in enumerate(made.run(numbers), 1):
        assert made._bytes == 0, finished


def test_actors_come_with_the_work_go_without_it_and_come_again(tmp_path, monkeypatch):
    """What is slow decides: encoding brings actors; while preparing is slow they give back their CPUs to others."""
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.5)
    monkeypatch.setattr(pools, "_TICK", 0.1)
    slowly = tmp_path / "slowly"
    size = PoolSize(least=1, most=3, actor_cpus=0.5, task_cpus=0.25)
    growing = pool(tmp_path, size, prepare=lambda number: paced.remote(number, slowly))
    outcomes = growing.run(itertools.count(1_000))

    def until(count):
        deadline = time.monotonic() + 90
        while len(growing._workers) != count and time.monotonic() < deadline:
            next(outcomes)
        return len(growing._workers)

    next(outcomes)
    assert until(1) == 1
    assert until(3) == 3
    slowly.touch()
    assert until(1) == 1
    assert free_cpus(at_least=2 - size.actor_cpus)
    slowly.unlink()
    assert until(3) == 3
    outcomes.close()
    assert free_cpus(at_least=2)


def free_cpus(at_least):
    """Whether the cluster comes to have so many for others."""
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0) < at_least - 1e-6 and time.monotonic() < deadline:
        time.sleep(0.1)
    return ray.available_resources().get("CPU", 0) >= at_least - 1e-6


def test_actors_that_cannot_start_end_the_run_by_their_error(tmp_path):
    made = ActorPool(lambda: ray.remote(num_cpus=0.5)(Broken).remote(), "add", SIZE, lambda item, reason: None)
    with pytest.raises(RuntimeError, match=r"an actor cannot start: (.|\n)*no model here"):
        list(made.run(range(3)))
