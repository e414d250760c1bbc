"""Tasks that prepare items, and actors that hold a model and work on what is prepared, both by the demand.

The driver holds what is under way and nothing else, for any number of items. Why not Ray Data: its driver keeps 20 kB a
block and took 17 ms for each (3,000 blocks on two busy cores), and to hold fewer blocks is to lose more to a kill.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError

from jobs.resources import CPU

ATTEMPTS = 5
"""Times that an item may lose the process or the node that works on it, and is begun again; then it has failed."""
CALLS = 3
"""Calls of an actor under way: one publishes, one computes, what the third takes is fetched."""
IDLE_SECONDS = 60.0
"""After which an actor without work goes, where the cluster may grow again."""
_TICK = 5.0  # seconds after which sizes are looked at again, whatever happens
_OBJECT_STORE = "object_store_memory"

ItemT = TypeVar("ItemT")
OutcomeT = TypeVar("OutcomeT")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PoolSize:
    """How many actors there are at the beginning and at most, and what preparing may take."""

    least: int
    most: int
    actor_cpus: float
    task_cpus: float
    """Of a task that prepares an item; 0 where nothing is to be prepared."""


@dataclass(eq=False)
class _Worker:
    handle: ActorHandle
    calls: int = 0
    idle_since: float = 0.0


@dataclass(frozen=True)
class _Prepared(Generic[ItemT]):
    """An item and what the actor takes; one that was lost has an actor for itself: if it kills, it kills no others."""

    value: Any
    item: ItemT
    lost: int = 0
    rescued: bool = False

    @property
    def calls(self) -> int:
        return CALLS if self.lost else 1


class ActorPool(Generic[ItemT, OutcomeT]):
    """Carries items through a task and an actor each.

    Args:
        start: makes an actor.
        method: of the actor; it takes what a task prepared, or the item itself, and gives an outcome.
        size: of the pool.
        failed: the outcome of an item that was lost too often, and why.
        prepare: makes the task of an item; None where the actors take items.
        rescue: makes another task of an item whose task lost its process each time; None where it has failed then.
        weight: bytes that an item takes once it is prepared.
    """

    def __init__(
        self,
        start: Callable[[], ActorHandle],
        method: str,
        size: PoolSize,
        failed: Callable[[ItemT, str], OutcomeT],
        prepare: Callable[[ItemT], ray.ObjectRef] | None = None,
        weight: Callable[[ItemT], int] = lambda item: 0,
        rescue: Callable[[ItemT], ray.ObjectRef] | None = None,
    ) -> None:
        self._start, self._method, self._size, self._failed = start, method, size, failed
        self._prepare, self._weight, self._rescue, self._rescued = prepare, weight, rescue, set[ray.ObjectRef]()
        self._starting: dict[ray.ObjectRef, _Worker] = {}
        self._workers: list[_Worker] = []
        self._preparing: dict[ray.ObjectRef, ItemT] = {}
        self._prepared: deque[_Prepared[ItemT]] = deque()
        self._calls: dict[ray.ObjectRef, tuple[_Worker, _Prepared[ItemT]]] = {}
        self._width, self._bytes, self._looked, self._lost_starts = size.least + 1, 0, 0.0, 0
        self._most, self._most_tasks, self._most_bytes = size.most, 1, 0

    def run(self, items: Iterable[ItemT]) -> Iterator[OutcomeT]:
        """What becomes of each item, as they finish; they are taken when there is room for them.

        RuntimeError where no actor can be started.
        """
        source = iter(items)
        try:
            self._look()
            self._grow(self._size.least)
            while self._feed(source):
                self._look()
                waited = [*self._calls, *self._preparing, *self._starting]
                done, _ = ray.wait(waited, timeout=_TICK, fetch_local=False)
                for ref in done:
                    yield from self._note(ref)
        finally:
            for ref in self._preparing:
                ray.cancel(ref, force=True)
            for worker in (*self._workers, *self._starting.values()):
                ray.kill(worker.handle)

    def _feed(self, source: Iterator[ItemT]) -> bool:
        """Give work to all that have room for it; whether there is any under way."""
        while self._has_room() and (item := next(source, None)) is not None:
            self._bytes += self._weight(item)
            if self._prepare is None:
                self._prepared.append(_Prepared(item, item))
            else:
                self._preparing[self._prepare(item)] = item
        while self._prepared and self._workers:
            worker, first = min(self._workers, key=lambda one: one.calls), self._prepared[0]
            if worker.calls + first.calls > CALLS:
                break
            self._calls[getattr(worker.handle, self._method).remote(first.value)] = (worker, first)
            worker.calls += first.calls
            self._prepared.popleft()
        return bool(self._calls or self._preparing or self._prepared)

    def _has_room(self) -> bool:
        waiting = len(self._preparing) + len(self._prepared)
        if self._bytes > self._most_bytes:
            return False
        if self._prepare is None:
            return waiting < self._size.most
        return len(self._preparing) < self._width and waiting < self._width + len(self._workers)

    def _note(self, ref: ray.ObjectRef) -> Iterator[OutcomeT]:
        """Take note of something that ended."""
        if ref in self._starting:
            self._note_start(ref)
        elif ref in self._preparing:  # an actor that is given one that failed fails by what it failed
            self._prepared.append(_Prepared(ref, self._preparing.pop(ref), rescued=ref in self._rescued))
            self._rescued.discard(ref)
            if any(not worker.calls for worker in self._workers):
                self._width = min(self._width + 1, self._most_tasks)
        else:
            yield from self._finish(ref)

    def _note_start(self, ref: ray.ObjectRef) -> None:
        worker = self._starting.pop(ref)
        try:
            ray.get(ref)
        except RayError as error:
            self._lost_starts += 1
            if getattr(error, "actor_init_failed", False) or self._lost_starts == ATTEMPTS:
                raise RuntimeError(f"an actor cannot start: {error}") from error
            self._grow(1)
            return
        if (
            self._workers and self._room(len(self._workers) + 1) < 0
        ):  # the cluster did not grow: tasks would find no room
            ray.kill(worker.handle)
            self._most = len(self._workers)
            return
        self._lost_starts, worker.idle_since = 0, time.monotonic()
        self._workers.append(worker)

    def _finish(self, ref: ray.ObjectRef) -> Iterator[OutcomeT]:
        worker, call = self._calls.pop(ref)
        worker.calls -= call.calls
        worker.idle_since = time.monotonic()
        try:
            outcome = ray.get(ref)
        except RayActorError as error:  # its process or node is gone, with all its calls
            if worker in self._workers:
                self._workers.remove(worker)
                self._grow(1)
            if call.lost < ATTEMPTS:
                self._prepared.appendleft(replace(call, lost=call.lost + 1))
                return
            outcome = self._failed(call.item, str(error))
        except RayError as error:
            if self._rescue is not None and not call.rescued:
                self._rescued.add(again := self._rescue(call.item))
                self._preparing[again] = call.item
                return
            outcome = self._failed(call.item, str(error))
        self._bytes -= self._weight(call.item)
        yield outcome

    def _look(self) -> None:
        """Have as many actors and tasks as there are room and work for."""
        size, count, now = self._size, len(self._workers) + len(self._starting), time.monotonic()
        if self._prepared and not self._starting and all(worker.calls == CALLS for worker in self._workers):
            self._grow(min(count, self._most - count))
        for worker in self._workers[:]:
            if count > size.least and not worker.calls and now - worker.idle_since > IDLE_SECONDS:
                self._workers.remove(worker)
                ray.kill(worker.handle)
                count -= 1
        if now - self._looked < _TICK and self._looked:
            return
        self._looked = now
        if size.task_cpus:
            growth = 2 if size.least < size.most else 1  # tasks that wait let an autoscaler add nodes
            self._most_tasks = max(1, int(self._room(count) / size.task_cpus + 1) * growth)
        self._most_bytes = int(ray.cluster_resources().get(_OBJECT_STORE, 0) / 2)

    def _room(self, actors: int) -> float:
        """CPUs that so many actors leave beyond those of one task."""
        cpus: float = ray.cluster_resources().get(CPU, 1)
        return cpus - actors * self._size.actor_cpus - self._size.task_cpus + 1e-6

    def _grow(self, count: int) -> None:
        for _ in range(count):
            worker = _Worker(self._start())
            self._starting[worker.handle.__ray_ready__.remote()] = worker
