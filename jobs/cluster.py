"""Starting Ray for a job: a cluster that is named, or one of its own that ends with the process."""

import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterator
from typing import Any

import ray

_PATIENCE = 20.0  # seconds in which a cluster must take a connection
_LENT = "SPAE_LENT_CLUSTER"  # set for processes whose cluster another process of ours lends
_QUIET = {"worker_process_setup_hook": "jobs.cluster.quiet_train"}
# what a cluster on one machine has no use for; each costs a process that imports Ray Train, about 4 s on two cores
_LEAN = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0", "RAY_TRAIN_METRICS_ENABLED": "0"}

logger = logging.getLogger(__name__)


def connect(address: str | None = None, **options: Any) -> bool:
    """Connect this process to Ray, once; whether more nodes may join the cluster, as they never do one of our own.

    The cluster is `address`, else the one of RAY_ADDRESS (`ray job submit` sets it), else a new one on this machine
    that ends with the process. A Ray that merely happens to run here is never joined.

    Args:
        address: host:port, ray://host:port, or local for a new one.
        options: for a new cluster, as `ray.init` takes them, such as num_cpus; a cluster that runs has its own.

    Raises:
        ValueError: nothing answers at the address.
        RuntimeError: a new one did not start.
    """
    place = address or os.environ.get("RAY_ADDRESS") or "local"
    ours = place == "local" or _LENT in os.environ
    if ray.is_initialized():
        return not ours
    if ours:
        for name, value in _LEAN.items():
            os.environ.setdefault(name, value)
    if place == "local":
        try:
            ray.init(
                address="local", include_dashboard=False, logging_level=logging.ERROR, runtime_env=_QUIET, **options
            )
        except Exception as error:  # a bare one where Ray's own processes take over 30 s, as on a busy machine
            raise RuntimeError(f"Ray did not start here: {error} Give the same command again") from error
        return False
    try:
        _probe(place)
        ray.init(address=place, logging_level=logging.WARNING, runtime_env=_QUIET if _LENT in os.environ else None)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"no Ray cluster answers at {place!r}: {error}; start one or leave the address out") from error
    logger.info("connected to the Ray cluster at %s with %s", place, ray.cluster_resources())
    return not ours


@contextlib.contextmanager
def lend_cluster(**options: Any) -> Iterator[dict[str, str]]:
    """A cluster of this process for the processes that it starts: saves each the start of its own, about 15 s.

    Yields the variables that lead them to it: none where RAY_ADDRESS names a cluster already, which then serves.
    """
    if "RAY_ADDRESS" in os.environ:
        yield {}
        return
    connect("local", **options)
    try:  # Ray keeps a token in ~/.ray and has set RAY_AUTH_MODE, without which others would not read it
        mode = os.environ.get("RAY_AUTH_MODE", "token")
        yield {"RAY_AUTH_MODE": mode, _LENT: "1", "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    finally:
        ray.shutdown()


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
