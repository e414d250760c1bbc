"""A training on the Ray cluster that this process is connected to, and what is done about its failures."""

import logging
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.fs
import ray.train
import ray.train.torch

from jobs.resources import CPU, GPU
from jobs.retries import persistently
from jobs.training.job import TrainJob
from jobs.training.loop import train_loop
from jobs.training.run_folder import latest_checkpoint, storage

logger = logging.getLogger(__name__)

RESIZE_SECONDS = 60.0
"""Between two looks at whether the cluster holds more workers of a range."""
_OWN_FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, NotImplementedError),
    *(SyntaxError, TypeError, ValueError),
)


class TrainingError(RuntimeError):
    """A training was given up; the message is one line on what failed."""


def train_on_cluster(job: TrainJob, workers: int | tuple[int, int], max_failures: int) -> Mapping[str, Any]:
    """Train until the last step; what the last checkpoint told.

    Of a range of workers as many are started as the cluster holds, and a change of it is seen within a minute: then, as
    after a failure, all begin again from the last checkpoint.

    A failure of a worker, its machine or a store resumes from the last checkpoint, until it has happened more than
    `max_failures` times (never, if that is below 0) without a new one. An error of the code or of the data would come
    again: it ends the training at once.

    Raises:
        TrainingError: the training was given up.
    """
    failures, last = 0, _latest(job.run)
    while True:
        try:
            return _trainer(job, workers).fit().metrics or {}
        except ray.train.TrainingFailedError as error:
            reason, own_fault = _diagnose(error)
            if own_fault:
                raise TrainingError(reason) from error
            before, last = last, _latest(job.run)
            failures = failures + 1 if last == before else 1
            if 0 <= max_failures < failures:
                raise TrainingError(f"{failures} failures without a new checkpoint; the last: {reason}") from error
            logger.warning("training failed and resumes from %s: %s", last or "the start", reason)


def worker_resources(job: TrainJob) -> dict[str, float]:
    """What one worker takes of a cluster, with a processor for each loader process."""
    return {CPU: job.threads + job.loader_workers, GPU: int(job.device == "cuda")}


def _trainer(job: TrainJob, workers: int | tuple[int, int]) -> ray.train.torch.TorchTrainer:
    file_system, above, name = storage(job.run)
    return ray.train.torch.TorchTrainer(
        train_loop,
        train_loop_config={"job": job},
        scaling_config=ray.train.ScalingConfig(  # type: ignore[call-arg] # as below
            num_workers=workers,  # type: ignore[arg-type]
            use_gpu=job.device == "cuda",
            resources_per_worker=worker_resources(job),
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
        ),
        run_config=ray.train.RunConfig(  # type: ignore[call-arg] # typed as the older version's, which lacks logging
            name=name,
            storage_path=above,
            storage_filesystem=pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(file_system)),
            failure_config=ray.train.FailureConfig(max_failures=0),  # counted in `train_on_cluster`
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=3),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )


def _latest(run: str) -> str | None:
    return persistently(f"looking for checkpoints in {run}", lambda: latest_checkpoint(run))


def _diagnose(error: ray.train.TrainingFailedError) -> tuple[str, bool]:
    """One line on a failure, and whether code or data are to blame, so that it would come again."""
    failures: Mapping[int, Exception] = getattr(error, "worker_failures", {})
    for rank, failure in failures.items():
        if isinstance(failure, _OWN_FAULTS) and not isinstance(failure, pa.ArrowException):  # Arrow's: of a store
            return f"worker {rank}: {_last_line(failure)}", True
    for rank, failure in failures.items():
        return f"worker {rank}: {_last_line(failure)}", False
    return _last_line(error), False


def _last_line(error: Exception) -> str:
    """What an error says, without the tracebacks that loaders and Ray put before it."""
    lines = str(error).strip().splitlines() or [""]
    return lines[-1] if len(lines) > 1 else f"{type(error).__name__}: {lines[0]}"
