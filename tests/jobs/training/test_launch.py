"""What is done about failures, on a cluster of this process."""

import dataclasses
import os
from pathlib import Path

import pyarrow as pa
import pytest
import ray
import ray.train

from jobs import train
from jobs.cluster import connect
from jobs.training import launch
from jobs.training.launch import TrainingError, train_on_cluster
from tests import tiny_spae


def job(folder, run):
    inputs = ["--shards", f"{folder}/train", "--vocabulary", f"{folder}/vocabulary", "--run", str(run)]
    return train.prepare(train.parse_flags(["digits-32", *inputs, "--steps", "4", *tiny_spae.SMALL_DIGITS]))


def diagnose(*failures):
    return launch._diagnose(ray.train.WorkerGroupError("told", dict(enumerate(failures))))


@pytest.mark.parametrize(
    "error", [TypeError("t"), ValueError("v"), KeyError("k"), AssertionError("a"), ImportError("i")]
)
def test_errors_of_code_and_data_are_told_from_those_of_machines_and_stores(error):
    reason, own_fault = diagnose(RuntimeError("Connection closed by peer"), error)
    assert own_fault
    assert reason == f"worker 1: {type(error).__name__}: {error}"


@pytest.mark.parametrize(
    "error", [OSError("cut"), RuntimeError("gloo"), pa.ArrowInvalid("store"), Exception("HttpError")]
)
def test_errors_of_machines_and_stores_are_tried_again(error):
    assert diagnose(error) == (f"worker 0: {type(error).__name__}: {error}", False)


def test_the_traceback_of_a_loader_is_left_out():
    error = ValueError(
        "Caught ValueError in DataLoader worker process 0.\nTraceback:\n  x\nValueError: a.tar is damaged\n"
    )
    assert diagnose(error) == ("worker 0: ValueError: a.tar is damaged", True)


def attempt(settings):
    """Fail as often as the run folder says, each time one checkpoint further or not at all."""
    run = Path(settings["job"].run)
    with (run / "attempts").open("a") as file:
        file.write(f"{ray.train.get_checkpoint() is not None}\n")
    kind, failures = (run / "plan").read_text().split()
    done = len((run / "attempts").read_text().split())
    if kind == "wrong":
        raise TypeError("an error of the code")
    if kind == "further" or done > int(failures):
        (run / f"{done}").mkdir()
        (run / f"{done}/state.pt").write_bytes(b"state")
        checkpoint = ray.train.Checkpoint.from_directory(str(run / f"{done}"))
        ray.train.report({"step": done}, checkpoint=checkpoint, checkpoint_dir_name=f"step-{done:08d}")
    if done <= int(failures):
        if kind == "killed":
            os._exit(1)
        raise OSError("the store is away")


def test_loader_processes_have_processors_of_their_own(folder, tmp_path):
    described = dataclasses.replace(job(folder, tmp_path / "run"), threads=2, loader_workers=3, device="cuda")
    assert launch.worker_resources(described) == {"CPU": 5, "GPU": 1}


@pytest.fixture(scope="module")
def cluster():
    connect("local", num_cpus=2)
    yield
    ray.shutdown()


def attempts(run):
    return (run / "attempts").read_text().split()


@pytest.mark.slow
def test_failures_count_until_a_checkpoint_is_made(folder, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "train_loop", attempt)
    run = tmp_path / "run"
    described = job(folder, run)
    (run / "plan").write_text("further 2")
    assert train_on_cluster(described, 1, max_failures=1)["step"] == 3
    assert attempts(run) == ["False", "True", "True"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["killed", "raised"])
def test_a_training_without_progress_is_given_up(folder, cluster, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(launch, "train_loop", attempt)
    run = tmp_path / "run"
    described = job(folder, run)
    (run / "plan").write_text(f"{kind} 2")
    with pytest.raises(TrainingError, match="2 failures without a new checkpoint; the last: "):
        train_on_cluster(described, 1, max_failures=1)
    assert attempts(run) == ["False", "False"]
    assert train_on_cluster(described, 1, max_failures=0)["step"] == 3


@pytest.mark.slow
def test_an_error_of_the_code_is_not_tried_again(folder, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "train_loop", attempt)
    run = tmp_path / "run"
    described = job(folder, run)
    (run / "plan").write_text("wrong 1")
    with pytest.raises(TrainingError, match=r"^worker 0: TypeError: an error of the code$"):
        train_on_cluster(described, 1, max_failures=3)
    assert len(attempts(run)) == 1
