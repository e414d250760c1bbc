"""Progress of bulk work: a bar in a terminal, a line per interval elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

LOG_INTERVAL = 10.0
"""Seconds between lines where nobody looks at a terminal."""

Item = TypeVar("Item")

logger = logging.getLogger(__name__)


def tracking(items: Iterable[Item], total: int, unit: str, size: Callable[[Item], int]) -> Iterator[Item]:
    """The items themselves, while what is done of `total`, its rate and the time left are shown."""
    terminal = sys.stderr.isatty()
    begin = shown = time.monotonic()
    done = 0
    with tqdm(total=total, unit=unit, disable=not terminal) as bar:
        for item in items:
            yield item
            done += size(item)
            bar.update(size(item))
            now = time.monotonic()
            if not terminal and now - shown >= LOG_INTERVAL:
                logger.info("%s", tqdm.format_meter(done, total, now - begin, ncols=0, unit=unit))
                shown = now
