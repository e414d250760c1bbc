"""Memory of a tokenizing run, process by process, over few shards and many: neither may grow with the run.

    python -m tests.benchmarks.bench_tokenize_memory --shards 10 1000

One run for each number of shards, all processes looked at four times a second: the command, the actors, the tasks that
decode, and Ray's own with workers that have no task yet. `MB` is resident memory, `own` what of it is not shared with
others (objects of Ray's store are shared, and stay mapped where they were read). Of each role the process that has
most; "at the end" (the last tenth of the tables) beside "after a tenth" is over ten times the run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil

from tests.tiny_shards import samples, write_split

ROOT = Path(__file__).parents[2]
ROLES = {"ray::ShardEncoder": "encoder", "ray::decode_shard": "decoder"}


class Watch:
    """Memory of a process and of those below it, by role.

    A worker keeps the role in which it was last seen: its title tells what it does in this moment.
    """

    def __init__(self, driver: psutil.Process) -> None:
        self.driver, self._roles = driver, {driver.pid: "driver"}

    def look(self) -> dict[str, tuple[int, int]]:
        """MB, and those of its own, of the largest process of each role."""
        found: dict[str, tuple[int, int]] = {}
        for process in (self.driver, *self.driver.children(recursive=True)):
            try:
                title, memory = process.cmdline()[:1], process.memory_info()
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            name = next((role for start, role in ROLES.items() if title and title[0].startswith(start)), None)
            role = self._roles[process.pid] = name or self._roles.get(process.pid, "Ray's")
            taken = memory.rss // 10**6, (memory.rss - memory.shared) // 10**6
            found[role] = max(found.get(role, taken), taken)
        return found


def run(split: str, shards: int, flags: list[str]) -> None:
    """Tokenize a split, and tell the memory of each role."""
    peaks: dict[str, tuple[int, int]] = {}
    moments: dict[int, dict[str, tuple[int, int]]] = defaultdict(dict)  # most in each tenth of the run
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "jobs.tokenize_shards", "--input", split, "--output", output, *flags]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        watch, begin = Watch(psutil.Process(process.pid)), time.monotonic()
        while process.poll() is None:
            tables = sum(name.startswith("test-") and name.endswith(".parquet") for name in os.listdir(output))
            for role, taken in watch.look().items():
                peaks[role] = max(peaks.get(role, taken), taken)
                moment = moments[tables * 10 // shards]
                moment[role] = max(moment.get(role, taken), taken)
            time.sleep(0.25)
        said = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(said)
    for role, (resident, own) in sorted(peaks.items()):
        print(json.dumps({"shards": shards, "role": role, "peak MB": resident, "own": own}))  # noqa: T201
    for moment, name in ((1, "after a tenth"), (9, "at the end")):
        for role, (resident, own) in sorted(moments[moment].items()):
            print(json.dumps({"shards": shards, "moment": name, "role": role, "MB": resident, "own": own}))  # noqa: T201
    print(json.dumps({"shards": shards, "seconds": round(time.monotonic() - begin)}), said.splitlines()[-2:])  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="digits")
    parser.add_argument("--shards", type=int, nargs="+", default=[10, 1_000])
    parser.add_argument("--pictures", type=int, default=64, help="of a shard")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    flags = ["--model", options.model, "--workers", str(options.workers), "--batch", "64"]
    for shards in options.shards:
        with tempfile.TemporaryDirectory() as folder:
            made = [samples(options.pictures, seed, 32) for seed in range(shards)]
            run(write_split(Path(folder) / "split", made), shards, flags)


if __name__ == "__main__":
    main()
