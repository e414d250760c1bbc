"""The loop of one worker, in this process."""

import dataclasses
import json
import logging
import weakref
from pathlib import Path

import pytest
import ray.train
import ray.train.torch
import torch

from jobs import train
from jobs.training.checkpoint import Checkpoints
from jobs.training.loop import train_loop
from jobs.training.run_folder import CheckpointMark, RunRecord, checkpoint_name, file_sha256, read_history
from spae.model import SPAE
from spae.training.state import TrainState
from spae.vocabulary import Vocabulary
from tests import tiny_spae

LOGGERS = ("", "ray.train", "jobs", "spae")


@pytest.fixture(autouse=True)
def _own_logging():
    """A worker's process logs its own way; this one goes on."""
    found = [logging.getLogger(name) for name in LOGGERS]
    kept = [(one.level, one.handlers, one.propagate) for one in found]
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    for one, (level, handlers, propagate) in zip(found, kept, strict=True):
        one.setLevel(level)
        one.handlers, one.propagate = handlers, propagate


def prepared(folder, name, *flags, steps=4):
    """The job of a training."""
    inputs = ["--shards", f"{folder}/train", "--vocabulary", f"{folder}/vocabulary", "--run", f"{folder}/{name}"]
    more = ["--steps", str(steps), *tiny_spae.SMALL_DIGITS, "--log-every", "2", "--checkpoint-every", "2", *flags]
    return train.prepare(train.parse_flags(["digits-32", *inputs, *more]))


def fit(job):
    """Train in this process; what Ray Train gives."""
    local = ray.train.ScalingConfig(num_workers=0)
    return ray.train.torch.TorchTrainer(train_loop, train_loop_config={"job": job}, scaling_config=local).fit()


def run(job):
    """Train in this process; the run folder."""
    fit(job)
    return job.run


def test_the_history_holds_a_row_a_line_and_the_validation(folder):
    history = read_history(run(prepared(folder, "whole", "--val-shards", f"{folder}/val")))
    assert [row["step"] for row in history] == [2, 4]
    assert all(row["validation_psnr"] > 5 for row in history)
    assert {"pixel", "latent_radius/5", "perplexity/1", "top_share/5", "words/5", "skipped"} <= set(history[0])
    assert "epoch_words/5" in history[1]


def test_a_run_whose_steps_change_nothing_ends_with_a_clear_word(folder):
    diverging = ("--optimizer.learning-rate", "1e30", "--optimizer.warmup-steps", "1", "--max-skipped", "3")
    job = prepared(folder, "diverging", *diverging, steps=40)
    result = fit(job)
    assert "steps in a row changed nothing" in result.metrics["stopped"]
    assert "--max-skipped 3" in result.metrics["stopped"]
    assert result.metrics["step"] < 20


@pytest.mark.skipif(torch.cuda.is_available(), reason="the worker finds CUDA")
def test_a_worker_that_finds_no_cuda_does_not_train_on_its_cpu(folder):
    with pytest.raises(ValueError, match="a worker is to compute on cuda and finds cpu"):
        run(prepared(folder, "cuda", "--device", "cuda"))


def test_what_a_resume_reads_is_not_held_through_the_training(folder, monkeypatch):
    """A checkpoint is four times the networks: what the state does not keep of it must go."""
    job, read, load = prepared(folder, "resumed"), [], torch.load

    def remember(*arguments, **options):
        saved = load(*arguments, **options)
        read.extend(weakref.ref(saved[part][name]) for part in ("model", "average") for name in saved[part])
        return saved

    state = new_state(job)
    register(job, state)
    monkeypatch.setattr(torch, "load", remember)
    assert restored(job, state)
    assert read
    assert [one for one in read if one() is not None] == []


def new_state(job):
    return TrainState.create(job.config, SPAE(job.config.model, Vocabulary.load(job.vocabulary)))


def register(job, state, *steps, run=None):
    """Put checkpoints of a state into the run folder as a training does."""
    for step in steps or (0,):
        folder = Path(job.run) / checkpoint_name(step)
        folder.mkdir()
        torch.save({**state.state_dict(job.plan(0, 1).order.position(0)), "step": step}, folder / "state.pt")
        record = run or RunRecord.load(job.run)
        mark = CheckpointMark(file_sha256(f"{folder}/state.pt"), step, record.to_json().decode(), {"workers": 1})
        (folder / "checkpoint.json").write_text(json.dumps(dataclasses.asdict(mark)))
    rows = [{"checkpoint_dir_name": checkpoint_name(step)} for step in steps or (0,)]
    (Path(job.run) / "checkpoint_manager_snapshot.json").write_text(json.dumps({"checkpoint_results": rows}))


def restored(job, state):
    """Whether a worker of this process finds a checkpoint, which it takes up."""

    def loop():
        checkpoints = Checkpoints(job.run, RunRecord.load(job.run), job.plan(0, 1).order)
        ray.train.report({"found": checkpoints.restore(state)})

    local = ray.train.ScalingConfig(num_workers=0)
    return ray.train.torch.TorchTrainer(loop, scaling_config=local).fit().metrics["found"]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(folder, caplog):
    job = prepared(folder, "damaged")
    register(job, new_state(job), 2, 4, 6)
    with open(f"{job.run}/step-00000006/state.pt", "r+b") as file:
        file.seek(5_000)
        file.write(b"other")
    Path(job.run, "step-00000004/state.pt").unlink()
    state = new_state(job)
    assert restored(job, state)
    assert state.step == 2
    assert "step-00000006/state.pt is damaged: its sha256 is not that of checkpoint.json" in caplog.text
    assert "step-00000004/state.pt is missing" in caplog.text
    Path(job.run, "step-00000002/state.pt").unlink()
    with pytest.raises(ValueError, match="holds damaged checkpoints only"):
        restored(job, state)


def test_a_checkpoint_of_another_run_is_refused_by_name(folder):
    job = prepared(folder, "another")
    there = dataclasses.replace(RunRecord.load(job.run), data_fingerprint="other")
    there = dataclasses.replace(there, config=dataclasses.replace(there.config, seed=5))
    register(job, new_state(job), 2, run=there)
    with pytest.raises(
        ValueError, match=r"other settings \(data_fingerprint: 'other' there, '\w+' here; seed: 5 there, 0"
    ):
        restored(job, new_state(job))


def test_a_checkpoint_of_an_earlier_version_which_has_no_mark_is_taken(folder):
    job = prepared(folder, "earlier")
    register(job, new_state(job), 2)
    Path(job.run, "step-00000002/checkpoint.json").unlink()
    assert restored(job, new_state(job))
