"""A training on the Ray cluster that this process is connected to."""

import fsspec
import pyarrow.fs
import ray
import ray.train
import ray.train.torch

from jobs.training.job import TrainJob
from jobs.training.loop import train_loop


def train_on_cluster(job: TrainJob, workers: int, max_failures: int) -> ray.train.Result:
    """Train until the last step."""
    use_gpu = ray.cluster_resources().get("GPU", 0) >= workers
    file_system, path = fsspec.url_to_fs(job.run)
    storage, _, name = path.rstrip("/").rpartition("/")
    trainer = ray.train.torch.TorchTrainer(
        train_loop,
        train_loop_config={"job": job},
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers, use_gpu=use_gpu, resources_per_worker={"CPU": job.threads, "GPU": int(use_gpu)}
        ),
        run_config=ray.train.RunConfig(  # type: ignore[call-arg] # typed as the older version's, which lacks logging
            name=name,
            storage_path=storage,
            storage_filesystem=pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(file_system)),
            failure_config=ray.train.FailureConfig(max_failures=max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=3),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )
    return trainer.fit()
