"""How the benchmarks measure: contestants in one process, in turn, on the same inputs; medians, and memory apart.

The first is the reference. A round runs each once, so that what else the machine does meets all alike. Memory is taken
in a round of its own, which is not timed and warms up.
"""

import ctypes
import json
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Contestant:
    """Work to measure: `run` does `items` of it."""

    run: Callable[[], object]
    items: int = 1


@dataclass(frozen=True)
class Row:
    """What was measured of a contestant."""

    name: str
    seconds: float  # median of a run
    fastest: float
    slowest: float
    items: int
    items_per_second: float
    ratio: float  # items a second, over the reference's: the median over rounds
    memory_mb: float  # peak beyond what was held before
    cpu_seconds: float | None = None  # median of this process's own: what others do on the machine changes it little


def timed(contestants: Mapping[str, Contestant], rounds: int = 5, device: str = "cpu") -> list[Row]:
    """Rows of contestants, by name, from alternating rounds."""
    memory = {name: peak_memory(contestant.run, device) for name, contestant in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            contestant.run()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
            cpu_seconds[name].append(time.process_time() - cpu_start)
    speeds = {name: [contestants[name].items / took for took in taken] for name, taken in seconds.items()}
    reference = speeds[next(iter(contestants))]
    return [
        Row(
            name=name,
            seconds=statistics.median(seconds[name]),
            fastest=min(seconds[name]),
            slowest=max(seconds[name]),
            items=contestant.items,
            items_per_second=statistics.median(speeds[name]),
            ratio=statistics.median(ours / theirs for ours, theirs in zip(speeds[name], reference, strict=True)),
            memory_mb=memory[name],
            cpu_seconds=statistics.median(cpu_seconds[name]),
        )
        for name, contestant in contestants.items()
    ]


def peak_memory(run: Callable[[], object], device: str = "cpu") -> float:
    """Peak extra memory of a run in MB: torch's own count on a CUDA device, else resident memory read every 2 ms.

    Linux alone tells it; elsewhere it is 0. What earlier runs freed is given back first: reused pages would not count.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    if sys.platform != "linux":
        run()
        return 0.0
    ctypes.CDLL(None).malloc_trim(0)
    before, peak, done = _resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, _resident())

    (watcher := threading.Thread(target=watch)).start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return max(peak - before, 0) / 1e6


def print_table(title: str, rows: list[Row], unit: str) -> None:
    """The rows as text, to the standard output."""
    head = f"{'seconds':>10}{'from':>10}{'to':>10}{'CPU':>10}{unit + '/s':>14}{'ratio':>8}{'peak MB':>10}"
    out = [title, f"{'':28}{head}"]
    for row in rows:
        cpu = "" if row.cpu_seconds is None else f"{row.cpu_seconds:.3f}"
        times = f"{row.seconds:10.3f}{row.fastest:10.3f}{row.slowest:10.3f}{cpu:>10}"
        out.append(f"{row.name:28}{times}{row.items_per_second:14.1f}{row.ratio:8.2f}{row.memory_mb:10.0f}")
    sys.stdout.write("\n".join(out) + "\n")


def write_json(path: str, title: str, rows: list[Row], **facts: object) -> None:
    """The rows with facts about the run, at `path`."""
    facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), **facts}
    document = {"title": title, **facts, "rows": [asdict(row) for row in rows]}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(document, indent=1) + "\n")


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
