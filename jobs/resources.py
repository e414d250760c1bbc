"""What a Ray cluster has for a job, and waiting for what it does not have yet."""

import logging
from collections.abc import Mapping
from typing import Literal

import ray
from ray._private.state import state as cluster_state
from ray.util import placement_group, remove_placement_group

Device = Literal["cpu", "cuda"]
GPU, CPU, MEMORY = "GPU", "CPU", "memory"

logger = logging.getLogger(__name__)


class ResourcesError(RuntimeError):
    """The cluster did not come to have what a job needs within the time given."""


def choose_device(asked: Literal["auto", "cpu", "cuda"]) -> Device:
    """The device that is asked for; auto is cuda where the cluster has GPUs, or says that it can start some."""
    if asked != "auto":
        return asked
    if gpus := reachable_resources().get(GPU, 0):
        logger.info("--device auto: cuda, since the cluster has, or can start, %g GPUs", gpus)
        return "cuda"
    logger.info("--device auto: cpu, since the cluster shows no GPU; give --device cuda where an autoscaler adds some")
    return "cpu"


def reachable_resources() -> dict[str, float]:
    """What the cluster has now, or can come to have where its autoscaler tells that, by name."""
    now: dict[str, float] = ray.cluster_resources()
    most = cluster_state.get_max_resources_from_cluster_config() or {}
    return {name: max(now.get(name, 0), most.get(name, 0)) for name in now.keys() | most.keys()}


def wait_for_room(workers: int, each: Mapping[str, float], seconds: float, *, may_grow: bool) -> None:
    """Wait until the cluster has room for so many workers at once; an autoscaler learns that they are wanted.

    Args:
        workers: how many.
        each: resources of one, by name.
        seconds: to wait at most.
        may_grow: whether nodes may join the cluster; where not, and all of it is too little, nothing is waited for.

    Raises:
        ValueError: there cannot be room; like the other it names what there is, and the remedy.
        ResourcesError: there was none in time.
    """
    wanted = {name: amount for name, amount in each.items() if amount}
    shown = f"{workers} workers of {', '.join(f'{amount:g} {name}' for name, amount in wanted.items())} each"
    resources = ray.cluster_resources()
    has: dict[str, float] = {name: resources.get(name, 0) for name in wanted}
    enough = all(has[name] >= workers * amount - 1e-6 for name, amount in wanted.items())
    remedy = "ask for fewer --workers, or another --device"
    if not enough and not may_grow:
        raise ValueError(f"the cluster has {has}, too little for {shown}; {remedy}")
    group = placement_group([wanted] * workers)
    try:
        if group.wait(1):
            return
        why = "they are in use" if enough else "its autoscaler, or who runs it, has to add some"
        logger.info("waiting up to %.0f s for %s; the cluster has %s: %s", seconds, shown, has, why)
        if not group.wait(seconds):
            raise ResourcesError(
                f"no room for {shown} within {seconds:g} s; the cluster has {has}; {remedy}, or a longer "
                "--wait-for-resources"
            )
    finally:
        remove_placement_group(group)
