"""Scoring beside the bare networks' forward passes: pictures a second after the first shard, on this machine.

    python -m tests.benchmarks.bench_evaluate        # some six minutes on two idle cores

Contestants, each in processes of its own with one thread, one after the other in every round:

    bare1, bare2     one process, or two beside each other: encode, decode, and the judge's two passes, of pictures that
                     are decoded and in memory
    job1             python -m jobs.evaluate: reads, decodes, encodes, judges, counts, publishes
    job2             the same with --workers 2

Wanted: job1 at least .90 of bare1, job2 at least .95 of bare2.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from spae.data.records import load_index
from spae.evaluation.pictures import channels_first, decode_pictures, read_whole
from spae.judges.catalogue import load_judge
from spae.model import SPAE
from tests.benchmarks.bench_tokenize import BATCH, ROOT, steady
from tests.tiny_shards import samples, write_split

WORKERS = {"bare1": 1, "bare2": 2, "job1": None, "job2": 2}
WANTED = {"job1": ("bare1", 0.90), "job2": ("bare2", 0.95)}
SINGLE_THREADED = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@torch.inference_mode()
def bare(split: str, model: str, judge: str) -> float:
    """One process: nothing but the networks."""
    loaded, judging = SPAE.from_pretrained(model), load_judge(judge)
    shards = [decode_pictures(read_whole(one), loaded.config.input_size).pixels for one in load_index(split).shards]
    batches = [part for pixels in shards for part in channels_first(pixels).split(BATCH)]

    def passes(pixels: torch.Tensor) -> int:
        rebuilt = loaded.decode(loaded.encode(pixels))
        judging(pixels), judging((rebuilt * 255).round().byte())
        return len(pixels)

    return steady(map(passes, batches))


def job(split: str, model: str, judge: str, workers: int | None) -> float:
    """The command: pictures of the shards that were published after each worker's first, a second."""
    index, first = load_index(split), workers or 1
    with tempfile.TemporaryDirectory() as output:
        flags = ["--model", model, "--shards", split, "--output", f"{output}/score.json", "--judges", judge]
        flags += ["--layers", str(SPAE.from_pretrained(model).depth), "--batch", str(BATCH)]
        flags += [] if workers is None else ["--workers", str(workers)]
        command = [sys.executable, "-m", "jobs.evaluate", *flags]
        subprocess.run(command, cwd=ROOT, env=SINGLE_THREADED, check=True, capture_output=True)
        times = sorted(part.stat().st_mtime for part in Path(output).glob("score.parts/*/*"))
    return sum(shard.samples for shard in index.shards[first:]) / (times[-1] - times[first - 1])


def measure(name: str, split: str, model: str, judge: str) -> float:
    """Pictures a second of a contestant, of all its processes together."""
    workers = WORKERS[name]
    if name.startswith("job"):
        return job(split, model, judge, workers)
    command = [sys.executable, "-m", "tests.benchmarks.bench_evaluate", "--inside", split, model, judge]
    started = [
        subprocess.Popen(command, cwd=ROOT, env=SINGLE_THREADED, stdout=subprocess.PIPE, text=True)
        for _ in range(workers or 1)
    ]
    return sum(float(process.communicate()[0]) for process in started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="digits")
    parser.add_argument("--judge", default="efficientnet-lite0")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=64, help="of a shard")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--inside", nargs=3, metavar=("SPLIT", "MODEL", "JUDGE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(bare(*options.inside))  # noqa: T201
        return
    with tempfile.TemporaryDirectory() as folder:
        shards = [samples(options.pictures, seed, options.side) for seed in range(options.shards)]
        split = write_split(Path(folder) / "split", shards)
        rounds = [
            {name: measure(name, split, options.model, options.judge) for name in WORKERS}
            for _ in range(options.rounds)
        ]
    for name in WORKERS:
        rates = [one[name] for one in rounds]
        shown: dict[str, object] = {"pictures/s": statistics.median(rates), "from": min(rates), "to": max(rates)}
        if name in WANTED:
            reference, wanted = WANTED[name]
            shown["of " + reference] = statistics.median(one[name] / one[reference] for one in rounds)
            shown["wanted"] = wanted
        print(json.dumps({"contestant": name, **shown}))  # noqa: T201


if __name__ == "__main__":
    main()
