"""Inputs that kill the process that works on them (a decoder's crash, all of the memory): found one by one."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from spae.data.media import MediaError

KILLED = "killed its process"
_TRIES = 2
"""The first process may have died of inputs before, as of memory that they left; the second makes this one alone."""

ResultT = TypeVar("ResultT")


class IsolatedProcess:
    """Calls functions in a process of its own, which may die without this one. A context manager.

    Args:
        prepare: is called with `arguments` first in each process.
    """

    def __init__(self, prepare: Callable[..., object] | None = None, *arguments: Any) -> None:
        self._prepare, self._arguments = prepare, arguments
        self._process = self._start()

    def __enter__(self) -> "IsolatedProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.shutdown()

    def call(self, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """What the function gives or raises there; MediaError where its process died of it twice."""
        for _ in range(_TRIES):
            try:
                return self._process.submit(function, *arguments).result()
            except BrokenProcessPool:
                self._process = self._start()
        raise MediaError(KILLED, f"{_TRIES} times")

    def _start(self) -> ProcessPoolExecutor:
        # spawned: forks of a worker with threads can stop for ever, and the file systems of stores do not survive one
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, context, self._prepare, self._arguments)
