"""What a run will cost: memory by what was measured, time by a batch."""

import logging
import math
import time
from collections.abc import Callable

import torch

from jobs.tokens.decoding import decoded_bytes
from jobs.tokens.job import TokenJob
from jobs.tokens.plan import TokenPlan
from spae.model import SPAE

_PROCESS = 3 << 28

logger = logging.getLogger(__name__)


def encoder_memory(model: SPAE, job: TokenJob) -> int:
    """Bytes of main memory that an actor takes at most.

    A process that has imported everything takes 0.6 GB. image-128 (227 MB of weights) took 0.3 GB more, and 42 MB a
    picture of the batch: 5 times its first layer's activations.
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


def log_cost(plan: TokenPlan, model: SPAE, job: TokenJob, workers: int) -> None:
    """Tell what is to be read and how long it takes to encode, shards of unknown length left out."""
    pixels = torch.zeros(job.batch, 3, *job.input_size, dtype=torch.uint8)
    seconds = seconds_of(lambda: model.encode(pixels, job.layers).to("cpu"))
    hours = sum(math.ceil((shard.samples or 0) / job.batch) for shard in plan.todo) * seconds / 3600
    logger.info(
        "%.3f GB to read; %.0f images/s on a CPU here, %.3g worker hours, about %.3g h on %d workers; decoding apart",
        *(sum(shard.bytes for shard in plan.todo) / 1e9, job.batch / seconds, hours, hours / workers, workers),
    )
    if plan.uncounted:
        logger.info("%d tars are not in these hours: their samples are counted when they are read", plan.uncounted)
