"""Commands that need each other, run some at once, each in a process of its own and on one Ray cluster."""

import graphlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from jobs.cluster import lend_cluster


@dataclass(frozen=True)
class Stage:
    """One command: a title, the module, its flags, the titles of what it needs, and whether it runs on Ray."""

    title: str
    module: str
    flags: tuple[str, ...]
    after: tuple[str, ...] = ()
    on_cluster: bool = False

    def run(self, environment: Mapping[str, str] | None = None) -> float:
        """Run it in a process of its own, its output shown line by line; the seconds it took.

        RuntimeError where it fails.
        """
        _show(self.title, " ".join(("python -m", self.module, *self.flags)))
        started = time.monotonic()
        # threads that spin while they wait slow each other down: one step of the small CLIP took 0.3 to 1.7 s on busy
        # cores, and 0.07 s with this
        settings = {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1", **os.environ}
        settings |= environment or {}
        command = [sys.executable, "-m", self.module, *self.flags]
        with subprocess.Popen(
            command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            for line in process.stdout or ():
                _show(self.title, line.rstrip())
        if process.returncode:
            raise RuntimeError(f"{self.title} failed with status {process.returncode}")
        return time.monotonic() - started


def _show(title: str, line: str) -> None:
    sys.stdout.write(f"{title:17.17} | {line}\n")
    sys.stdout.flush()


def run_stages(stages: Sequence[Stage], cpus: int = 0, at_once: int = 3) -> dict[str, float]:
    """Run every stage once those it needs have ended, some at once: much of a stage is imports and start on one core.

    With `cpus` a Ray cluster of so many starts beside the first stages, and those on the cluster wait for it.

    The seconds of each by title; RuntimeError where one fails, when those that run have ended.
    """
    by_title = {stage.title: stage for stage in stages}
    order = graphlib.TopologicalSorter({stage.title: stage.after for stage in stages})
    order.prepare()
    seconds: dict[str, float] = {}
    lent: Future[Mapping[str, str]] = Future()

    def start(title: str) -> float:
        stage = by_title[title]
        return stage.run(lent.result() if stage.on_cluster else None)

    with ThreadPoolExecutor(at_once) as pool:
        running = {pool.submit(start, title): title for title in order.get_ready()}
        try:
            with _cluster(cpus) as environment:
                lent.set_result(environment)
                while running:
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        title = running.pop(future)
                        seconds[title] = round(future.result(), 1)
                        order.done(title)
                    running |= {pool.submit(start, title): title for title in order.get_ready()}
        except BaseException:
            lent.cancel()  # nobody waits for a cluster that did not start
            pool.shutdown(cancel_futures=True)
            raise
    return seconds


def _cluster(cpus: int) -> AbstractContextManager[dict[str, str]]:
    return lend_cluster(num_cpus=cpus) if cpus else nullcontext({})
