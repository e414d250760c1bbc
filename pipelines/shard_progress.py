"""Progress of a run that writes shards, read from the folder that it writes: the same on every runner."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from pipelines.progress import LOG_INTERVAL, TERMINAL_INTERVAL
from pipelines.shard_plan import PlannedShard
from spae.publishing import list_files

LISTING_SHARE = 0.1
"""Share of the time that may go into listing the folder, which takes long with a hundred thousand shards."""

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def showing_progress(todo: Sequence[PlannedShard], folder: str) -> Iterator[None]:
    """While the block runs, show inputs done, rate and ETA: a bar in a terminal, a line per interval elsewhere."""
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(todo, folder, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(todo: Sequence[PlannedShard], folder: str, stop: threading.Event) -> None:
    terminal = sys.stderr.isatty()
    total = sum(shard.inputs for shard in todo)
    begin = time.monotonic()
    interval = least = TERMINAL_INTERVAL if terminal else LOG_INTERVAL
    with tqdm(total=total, unit="input", disable=not terminal) as bar:
        ended = False
        while not ended:
            ended = stop.wait(interval)
            asked = time.monotonic()
            try:
                files = list_files(folder)
            except Exception as error:  # a store's hiccup, of whatever type, must not end a run that works
                logger.warning("progress is unknown for now: %s", error)
                continue
            interval = max(least, (time.monotonic() - asked) / LISTING_SHARE)
            done = sum(shard.inputs for shard in todo if f"{shard.name}.json" in files)
            bar.update(done - bar.n)
            if not terminal and not ended:
                logger.info("%s", tqdm.format_meter(done, total, time.monotonic() - begin, ncols=0, unit="input"))
