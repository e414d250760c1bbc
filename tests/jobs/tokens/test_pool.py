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


def test_actors_come_with_the_work_and_go_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(pools, "_TICK", 0.1)
    growing = pool(tmp_path, PoolSize(least=1, most=3, actor_cpus=0.5, task_cpus=0))
    outcomes = growing.run(itertools.count(100))
    pids = {next(outcomes)[1]}
    assert len(growing._workers) == 1
    deadline = time.monotonic() + 60
    while len(pids) < 3 and time.monotonic() < deadline:
        pids.add(next(outcomes)[1])
    assert len(pids) == 3
    outcomes.close()


def test_actors_that_cannot_start_end_the_run_by_their_error(tmp_path):
    made = ActorPool(lambda: ray.remote(num_cpus=0.5)(Broken).remote(), "add", SIZE, lambda item, reason: None)
    with pytest.raises(RuntimeError, match=r"an actor cannot start: (.|\n)*no model here"):
        list(made.run(range(3)))
