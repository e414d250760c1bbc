"""Starting Ray for a job: a cluster that is named, or one of its own that ends with the process."""

import logging
import os
import re
import socket
from typing import Any

import ray

_PATIENCE = 20.0  # seconds in which a cluster must take a connection

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
        hook = {"worker_process_setup_hook": "jobs.cluster.quiet_train"}
        ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR, runtime_env=hook, **options)
        return
    try:
        _probe(place)
        ray.init(address=place, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"no Ray cluster answers at {place!r}: {error}; start one or leave the address out") from error
    logger.info("connected to the Ray cluster at %s with %s", place, ray.cluster_resources())


def quiet_train() -> None:
    """Keep two parts of Ray Train from warning that a cluster of our own has neither dashboard nor autoscaler.

    Where another Ray runs beside it, they also have to be told which one they belong to.
    """
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    for name in ("controller.placement_group_cleaner", "scaling_policy.autoscaling_coordinator_client"):
        logging.getLogger(f"ray.train.v2._internal.execution.{name}").setLevel(logging.ERROR)


def _probe(place: str) -> None:
    """ConnectionError where nobody listens: Ray itself would try for ever."""
    if address := re.fullmatch(r"(?:ray://)?\[?([^/\]]+)\]?:(\d+)", place):
        socket.create_connection((address[1], int(address[2])), timeout=_PATIENCE).close()
