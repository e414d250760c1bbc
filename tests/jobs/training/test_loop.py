"""The loop of one worker, in this process."""

import logging
import weakref

import pytest
import ray.train
import ray.train.torch
import torch

from jobs import train
from jobs.training.checkpoint import restore
from jobs.training.loop import train_loop
from jobs.training.run_folder import read_history
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

    state = TrainState.create(job.config, SPAE(job.config.model, Vocabulary.load(job.vocabulary)))
    plan = job.plan(0, 1)
    torch.save(state.state_dict(plan.order.position(0)), f"{job.run}/state.pt")
    monkeypatch.setattr(torch, "load", remember)
    checkpoint = ray.train.Checkpoint.from_directory(job.run)
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: checkpoint)
    restore(state, plan.order)
    assert read
    assert [one for one in read if one() is not None] == []
