"""Progress of long work: a bar in a terminal, a line per interval in logs."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

TERMINAL_INTERVAL, LOG_INTERVAL = 1.0, 10.0

logger = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")


def tracked(items: Iterable[ItemT], total: int | None, unit: str, scale: int = 1) -> Iterator[ItemT]:
    """The items, with their number, rate and (where the total is known) ETA; each item counts as `scale` units."""
    begin = last = time.monotonic()
    terminal = sys.stderr.isatty()
    for done, item in enumerate(tqdm(items, total=total, unit=unit, unit_scale=scale, disable=not terminal), 1):
        yield item
        if not terminal and time.monotonic() - last > LOG_INTERVAL:
            last = time.monotonic()
            logger.info("%s", tqdm.format_meter(done, total, last - begin, ncols=0, unit=unit, unit_scale=scale))
