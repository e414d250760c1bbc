"""What a run will cost: memory by what was measured, time by a batch."""

import dataclasses
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import ray
import torch

from jobs.cluster import connect
from jobs.tokens.actors import ModelActors, load_for_actor
from jobs.tokens.decoding import decoded_bytes
from jobs.tokens.job import TokenJob
from jobs.tokens.plan import TokenPlan
from spae.model import SPAE

_PROCESS = 1 << 30

logger = logging.getLogger(__name__)


def encoder_memory(model: SPAE, job: TokenJob) -> int:
    """Bytes of main memory that an actor takes at most.

    A process that has imported everything takes 0.6 to 0.8 GB. image-128 (227 MB of weights) took 0.3 GB more, and
    42 MB a picture of the batch: 5 times its first layer's activations.
    """
    weights = sum(parameter.nbytes for parameter in model.parameters())
    activations = 4 * job.batch * math.prod(job.input_size) * model.config.network.base_channels
    return _PROCESS + 2 * weights + (6 * activations if job.device == "cpu" else 0)


def decoder_memory(plan: TokenPlan, job: TokenJob) -> int:
    """Bytes of main memory that a decoding task takes at most: a shard's pictures one by one, then as one array."""
    return _PROCESS + 2 * max((decoded_bytes(shard, job) for shard in plan.todo), default=0)


def seconds_of(work: Callable[[], object]) -> float:
    """What some work takes on one thread, the second time: the first warms up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(2):
        begin = time.monotonic()
        work()
        seconds = time.monotonic() - begin
    torch.set_num_threads(threads)
    return seconds


@dataclass(frozen=True)
class BatchCost:
    """Seconds that a batch takes to encode, and on what."""

    seconds: float
    device: str


def batch_cost(model: SPAE, job: TokenJob, actors: ModelActors, ray_address: str | None) -> BatchCost:
    """What a batch takes on a cluster, where one is named, by a task that has what an actor would have; else here.

    ValueError or ResourcesError where the cluster has no room for one.
    """
    if ray_address is None and "RAY_ADDRESS" not in os.environ:
        return _encode_batch(model, job, "a CPU here")
    one = dataclasses.replace(actors, workers=1, memory=encoder_memory(model, job))
    one.fitting(connect(ray_address))
    measured: BatchCost = ray.get(ray.remote(**one.resources)(_batch_cost_there).remote(job))
    return measured


def _batch_cost_there(job: TokenJob) -> BatchCost:
    model = load_for_actor(job.model, job.model_fingerprint, job.device)
    return _encode_batch(model, job, f"{model.device_name} of the cluster")


def _encode_batch(model: SPAE, job: TokenJob, device: str) -> BatchCost:
    pixels = torch.zeros(job.batch, 3, *job.input_size, dtype=torch.uint8)
    return BatchCost(seconds_of(lambda: model.encode(pixels, job.layers).to("cpu")), device)


def log_cost(plan: TokenPlan, job: TokenJob, workers: int, batch: BatchCost) -> None:
    """Tell what is to be read and how long it takes to encode, shards of unknown length left out."""
    hours = (
        sum(math.ceil((shard.samples or 0) * job.rows_of_sample / job.batch) for shard in plan.todo)
        * batch.seconds
        / 3600
    )
    logger.info(
        "%.3f GB to read; %.0f images/s on %s, %.3g worker hours, about %.3g h on %d workers; decoding apart",
        *(sum(shard.bytes for shard in plan.todo) / 1e9, job.batch / batch.seconds, batch.device),
        *(hours, hours / workers, workers),
    )
    if plan.uncounted:
        logger.info("%d tars are not in these hours: their samples are counted when they are read", plan.uncounted)
