"""What every worker of a training runs."""

import logging
import sys
from typing import Any

import ray.train
import ray.train.torch
import torch

from jobs.training.checkpoint import Checkpoints
from jobs.training.job import TrainJob
from jobs.training.judges import load_judges
from jobs.training.log import TrainingLog
from jobs.training.run_folder import RunRecord, run_record
from jobs.training.usage import EpochHealth, UsageMeter
from jobs.training.validation import load_validation, validation_psnr
from spae.collectives import Terms
from spae.data.loader import BatchPlan, batches
from spae.model import SPAE
from spae.training.objective import Objective
from spae.training.replicas import check_replicas
from spae.training.state import TrainState
from spae.training.step import train_step
from spae.vocabulary import Vocabulary


def train_loop(settings: dict[str, Any]) -> None:
    """Train from the newest checkpoint to the last step; what Ray Train runs on every worker.

    Args:
        settings: the TrainJob, as `job`.
    """
    job: TrainJob = settings["job"]
    _log_from_worker()
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    if device.type != job.device:
        raise ValueError(f"a worker is to compute on {job.device} and finds {device}; is CUDA sound on its machine?")
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.config.seed)
    vocabulary = Vocabulary.load(job.vocabulary)
    state = TrainState.create(job.config, SPAE(job.config.model, vocabulary).to(device))
    if job.compile:
        state.model.compile_networks()
    judges = load_judges(job.judges, state.model.vocabulary, job.config.objective.semantic_weight > 0, device)
    objective = Objective(job.config.objective, judges.guidance, judges.perceptual)
    plan = job.plan(context.get_world_rank(), context.get_world_size())
    image_model = RunRecord.load(job.run).image_model
    record = run_record(job.config, vocabulary, job.vocabulary, plan.index, image_model)
    checkpoints = Checkpoints(job.run, record, plan.order)
    if not checkpoints.restore(state) and job.image_model:
        job.image_model.begin(state)
    _train(job, plan, state, objective, checkpoints)


def _train(job: TrainJob, plan: BatchPlan, state: TrainState, objective: Objective, checkpoints: Checkpoints) -> None:
    """Step until the end, or until there is a reason to stop."""
    log = TrainingLog(job.run, job.config, state.step, plan.rank)
    thresholds = job.config.objective.semantic_thresholds[: objective.guided_layers]
    usage = UsageMeter(state.model, plan.order.samples, state.seen, thresholds)
    pictures = None
    if plan.rank == 0 and job.val_shards is not None:
        size, stride = job.config.model.input_size, job.config.data.frame_stride
        pictures = load_validation(job.val_shards, size, frame_stride=stride)
    parts = batches(plan, state.seen)
    while state.step < job.config.steps:
        with log.waiting():
            batch = next(parts)
        result = train_step(state, objective, batch.to(state.model.device), job.config)
        usage.update(result.quantized.tokens)
        log.update(result, batch)
        last, stopped = state.step == job.config.steps, ""
        if last or state.step % job.log_every == 0:
            check_replicas(state)
            log.line(state.step, result.terms, usage.take_recent())
            if health := usage.end_epoch(state.seen, result.terms):
                log.epoch(health)
            stopped = _reason_to_stop(job, result.terms, health)
        if last or stopped or state.step % job.checkpoint_every == 0:
            metrics: dict[str, Any] = {"stopped": stopped} if stopped else {}
            if pictures is not None:
                psnr = validation_psnr(state.average, pictures, job.config.data.batch_size // plan.ranks)
                metrics["validation_psnr"] = psnr
                log.validation(state.step, psnr)
                log.board.draw(state.step, state.average, pictures)
            log.publish()
            checkpoints.save(state, metrics, best=log.at_best)
        if stopped:
            return


def _reason_to_stop(job: TrainJob, terms: Terms, health: EpochHealth | None) -> str:
    """Why the training ends here, the same on every worker; empty where it goes on."""
    if health and health.problems and job.abort_on == "collapse":
        return "; ".join(health.problems)
    skipped = int(terms["skipped_in_a_row"])
    if skipped >= job.max_skipped:
        return (
            f"{skipped} steps in a row changed nothing, as a loss or gradient was not finite (--max-skipped "
            f"{job.max_skipped}); the log names samples, a lower learning rate may help"
        )
    return ""


def _log_from_worker() -> None:
    """Lines of ours alone: Ray's loggers tell of every report, and open_clip of every file."""
    handler = logging.StreamHandler(sys.stderr)
    for other in (logging.getLogger(), logging.getLogger("ray.train")):
        other.setLevel(logging.WARNING)
    for package in (logging.getLogger("jobs"), logging.getLogger("spae")):
        package.setLevel(logging.INFO)
        package.handlers, package.propagate = [handler], False  # open_clip gives the root logger a handler too
