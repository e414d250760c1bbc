"""Starting Ray for a job: a cluster that is named, or one of its own that ends with the process."""

import logging
import os
from typing import Any

import ray

logger = logging.getLogger(__name__)


def connect(address: str | None = None, **options: Any) -> None:
    """Connect this process to Ray, once.

    The cluster is `address`, else the one of RAY_ADDRESS (`ray job submit` sets it), else a new one on this machine
    that ends with the process. A Ray that merely happens to run here is never joined.

    Args:
        address: host:port, ray://host:port, or local for a new one.
        options: for a new cluster, as `ray.init` takes them, such as num_cpus; a cluster that runs has its own.

    Raises:
        ValueError: nothing answers at the address.
    """
    if ray.is_initialized():
        return
    place = address or os.environ.get("RAY_ADDRESS") or "local"
    if place == "local":
        hook = {"worker_process_setup_hook": "jobs.cluster.quiet_cleaner"}
        ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR, runtime_env=hook, **options)
        return
    try:
        ray.init(address=place, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(f"no Ray cluster answers at {place!r}: {error}; start one or leave the address out") from error
    logger.info("connected to the Ray cluster at %s with %s", place, ray.cluster_resources())


def quiet_cleaner() -> None:
    """Keep Ray Train's cleaner of placement groups from warning every second that there is no dashboard to ask."""
    logging.getLogger("ray.train.v2._internal.execution.controller.placement_group_cleaner").setLevel(logging.ERROR)
