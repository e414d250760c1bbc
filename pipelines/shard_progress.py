"""Progress of a run that writes shards, read from the folder that it writes: the same on every runner."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from pipelines.shard_plan import Plan
from pipelines.shard_split import SplitState
from spae.publishing import list_files

TERMINAL_INTERVAL, LOG_INTERVAL = 1.0, 10.0

logger = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")


def tracked(items: Iterable[ItemT], total: int, unit: str) -> Iterator[ItemT]:
    """The items, with their number, rate and ETA: a bar in a terminal, a line per interval elsewhere."""
    begin = last = time.monotonic()
    for done, item in enumerate(tqdm(items, total=total, unit=unit, disable=not sys.stderr.isatty()), 1):
        yield item
        if not sys.stderr.isatty() and time.monotonic() - last > LOG_INTERVAL:
            last = time.monotonic()
            logger.info("%s", tqdm.format_meter(done, total, last - begin, ncols=0, unit=unit))


@contextlib.contextmanager
def showing_progress(plan: Plan, state: SplitState, folder: str) -> Iterator[None]:
    """While the block runs, show inputs done, rate and ETA: a bar in a terminal, a line per interval elsewhere."""
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(plan, state, folder, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(plan: Plan, state: SplitState, folder: str, stop: threading.Event) -> None:
    terminal = sys.stderr.isatty()
    total = sum(len(shard.entries) for shard in state.todo)
    begin = time.monotonic()
    with tqdm(total=total, unit="input", disable=not terminal) as bar:
        ended = False
        while not ended:
            ended = stop.wait(TERMINAL_INTERVAL if terminal else LOG_INTERVAL)
            try:
                files = list_files(folder)
            except OSError as error:  # a store's hiccup must not end a run that works
                logger.warning("progress is unknown for now: %s", error)
                continue
            done = sum(len(shard.entries) for shard in state.todo if f"{shard.name}.json" in files)
            bar.update(done - bar.n)
            if not terminal and not ended:
                logger.info("%s", tqdm.format_meter(done, total, time.monotonic() - begin, ncols=0, unit="input"))
