"""Inputs that kill the process that makes samples of them (a decoder's crash, all of the memory): found one by one."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from pipelines.planning.plan import ShardSettings
from pipelines.shards.inputs import InputMaker, Made
from spae.data.records import ClassName
from spae.data.sources import Entry

_TRIES = 2
"""The first process may have died of inputs before, as of memory that they left; the second makes this one alone."""


class IsolatedMaker:
    """Makes samples in a process of its own; an input that kills it twice is a dead letter. A context manager."""

    def __init__(self, settings: ShardSettings, classes: tuple[ClassName, ...]) -> None:
        self._settings, self._classes = settings, classes
        self._process = self._start()

    def __enter__(self) -> "IsolatedMaker":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.shutdown()

    def make(self, entry: Entry) -> Made:
        """As `InputMaker.make`."""
        for _ in range(_TRIES):
            try:
                return self._process.submit(_make, entry).result()
            except BrokenProcessPool:
                self._process = self._start()
        return Made(reason="killed its process", details=f"{_TRIES} times")

    def _start(self) -> ProcessPoolExecutor:
        # spawned: forks of a worker with threads can stop for ever, and the file systems of stores do not survive one
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, context, _open_maker, (self._settings, self._classes))


def _open_maker(settings: ShardSettings, classes: tuple[ClassName, ...]) -> None:
    global _maker
    _maker = InputMaker(settings.source.open(), settings.samples, classes)


def _make(entry: Entry) -> Made:
    return _maker.make(entry)


_maker: InputMaker
