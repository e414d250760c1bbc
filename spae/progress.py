"""Progress of long work: a bar in a terminal, a line per interval in logs."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

TERMINAL_INTERVAL, LOG_INTERVAL = 1.0, 10.0
COUNTING_SHARE = 0.1
"""Share of the time that may go into counting: listing a folder takes long with a hundred thousand files in it."""

logger = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")


def tracked(
    items: Iterable[ItemT], total: int | None, unit: str, size: Callable[[ItemT], int] = lambda item: 1
) -> Iterator[ItemT]:
    """The items, while what is done, its rate and (where the total is known) ETA are shown.

    `size` tells how many units an item counts.
    """
    terminal = sys.stderr.isatty()
    begin = shown = time.monotonic()
    done = 0
    with tqdm(total=total, unit=unit, disable=not terminal) as bar:
        for item in items:
            yield item
            done += size(item)
            bar.update(size(item))
            if not terminal and time.monotonic() - shown >= LOG_INTERVAL:
                shown = time.monotonic()
                logger.info("%s", tqdm.format_meter(done, total, shown - begin, ncols=0, unit=unit))


@contextlib.contextmanager
def watched(count: Callable[[], int], total: int, unit: str) -> Iterator[None]:
    """While the block runs, show how many units are done, their rate and ETA.

    `count` reads that from where the work leaves its results, so that it is the same on every runner.
    """
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(count, total, unit, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(count: Callable[[], int], total: int, unit: str, stop: threading.Event) -> None:
    terminal, begin = sys.stderr.isatty(), time.monotonic()
    interval = least = TERMINAL_INTERVAL if terminal else LOG_INTERVAL
    with tqdm(total=total, unit=unit, disable=not terminal) as bar:
        ended = False
        while not ended:
            ended = stop.wait(interval)
            asked = time.monotonic()
            try:
                done = count()
            except Exception as error:  # a store's hiccup, of whatever type, must not end a run that works
                logger.warning("progress is unknown for now: %s", error)
                continue
            interval = max(least, (time.monotonic() - asked) / COUNTING_SHARE)
            bar.update(done - bar.n)
            if not terminal and not ended:
                logger.info("%s", tqdm.format_meter(done, total, time.monotonic() - begin, ncols=0, unit=unit))
