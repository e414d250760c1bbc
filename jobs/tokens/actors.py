"""Actors that hold a model: for how many there is room, how they load it, and when their failures end a run."""

import logging
import math
import os
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.actor import ActorHandle

from jobs.resources import CPU, GPU, MEMORY, Device, ResourcesError, wait_for_room
from jobs.retries import persistently
from jobs.tokens.pool import PoolSize
from spae.model import SPAE

FAILURES_IN_A_ROW = 32
"""Shards after which the trouble is not theirs."""
_PATIENCE = 1_800.0  # seconds for a cluster to have its first nodes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ModelActors:
    """How many actors are wanted, and what each of them takes."""

    workers: int
    cpus: float
    """Of an actor."""
    cpus_beside: float = 0
    """Of a task that works beside the actors; without room for one all would wait for ever."""
    memory: int = 0
    """Bytes of an actor."""
    memory_beside: int = 0
    """Bytes of a task beside them."""
    device: Device
    wait_for_resources: float | None = None

    @property
    def local_cpus(self) -> int:
        """CPUs of a Ray of our own: enough for the actors and two tasks, also where the machine has fewer."""
        return max(os.cpu_count() or 1, math.ceil(self.workers * self.cpus + 2 * self.cpus_beside))

    def fitting(self, may_grow: bool) -> int:
        """The workers asked for, or as many as leave a task some CPU; waits for one where there is room for none.

        ValueError where there cannot be one, ResourcesError where there is none in time.
        """
        fitting, patience = self._room(), self.wait_for_resources
        if fitting < self.workers and (fitting < 1 or patience is not None):
            wanted = 1 if may_grow and patience is None else self.workers  # others come when there is work for them
            each = {CPU: self.cpus, GPU: int(self.device == "cuda"), MEMORY: self.memory}
            try:
                wait_for_room(wanted, each, _PATIENCE if patience is None else patience, may_grow=may_grow)
            except (ResourcesError, ValueError):
                if self._room() < 1:
                    raise
            fitting = max(1, self._room())
        if fitting < self.workers:
            logger.warning("the cluster has room for %d of %d workers", fitting, self.workers)
        return min(fitting, self.workers)

    def pool_size(self, *, may_grow: bool) -> PoolSize:
        """All actors from the beginning, or where the cluster may grow one, and more as they are wanted."""
        least = 1 if may_grow else self.workers
        return PoolSize(least=least, most=self.workers, actor_cpus=self.cpus, task_cpus=self.cpus_beside)

    def start(self, actor: type, job: object, calls: int = 1) -> ActorHandle:
        """One of these actors, of a class that takes a job and so many calls at once."""
        options: dict[str, Any] = {"max_concurrency": calls, **self.resources}
        handle: Any = ray.remote(**options)(actor).remote(job)
        return handle

    @property
    def resources(self) -> dict[str, Any]:
        """What Ray reserves for one."""
        return {
            "num_cpus": self.cpus,
            "num_gpus": 1 if self.device == "cuda" else None,
            "memory": self.memory or None,
        }

    def _room(self) -> int:
        """How many workers the cluster, as it is now, has room for."""
        resources = ray.cluster_resources()
        fitting = int((resources.get(CPU, 0) - self.cpus_beside) / self.cpus + 1e-9)
        if self.memory:
            fitting = min(fitting, int((resources.get(MEMORY, 0) - self.memory_beside) / self.memory))
        return min(fitting, int(resources.get(GPU, 0))) if self.device == "cuda" else fitting


class FailureWatch:
    """Counts shards that fail in a row.

    Args:
        consequence: for a failed shard, such as "gets no table".
    """

    def __init__(self, consequence: str) -> None:
        self._consequence, self._failures = consequence, 0

    def note(self, shard: str, reason: str) -> None:
        """Take note of what became of a shard, with no reason where it is well; RuntimeError where too many failed."""
        self._failures = self._failures + 1 if reason else 0
        if reason:
            logger.error("%s %s: %s", shard, self._consequence, reason)
        if self._failures == FAILURES_IN_A_ROW:
            raise RuntimeError(f"{self._failures} shards in a row have failed, the last by: {reason}")


def load_for_actor(model: str, fingerprint: str | None, device: str) -> SPAE:
    """Load a model where an actor computes; ValueError unless it is the one that the job began with, if that is known.

    It computes with one thread on a CPU: another number adds in another order, and a last bit could differ.
    """
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    loaded = persistently(f"loading {model}", lambda: SPAE.from_pretrained(model, device))
    if fingerprint not in (None, loaded.fingerprint):
        raise ValueError(
            f"{model} was {fingerprint} when the job began and is {loaded.fingerprint} now; "
            "give each model a folder of its own and start again"
        )
    return loaded
