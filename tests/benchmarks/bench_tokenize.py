"""Tokenizing in bulk beside what else could be done: images a second of all but the first batch or shard, in one run.

    python -m tests.benchmarks.bench_tokenize

Contestants, each in processes of its own, one after the other in every round. Of small pictures, where the model is the
bottleneck:

    bare1, bare2     one process, or two that begin together: encode batches of pictures that are decoded and in memory
    job1, job2       python -m jobs.tokenize_shards --workers 1, or 2: reads, decodes, encodes, publishes
    webdataset       webdataset and a DataLoader with one worker, to the same words, which are not written
    read_webdataset  ray.data.read_webdataset, a map that decodes, one that encodes; the words are not written

Of photographs, where decoding is:

    decode2          two processes that begin together: read, decode and resize, without a model
    photographs1     python -m jobs.tokenize_shards --workers 1

In the end come the ratios, each the median over rounds. Memory: tests/benchmarks/bench_tokenize_memory.py.
"""

import argparse
import io
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from spae.data.media import encode_jpeg
from spae.data.records import load_index
from spae.evaluation.pictures import decode_pictures, encode_in_batches, read_whole
from spae.model import SPAE
from tests.photographs import photographs
from tests.tiny_shards import Sample, samples, write_split

ROOT = Path(__file__).parents[2]
BATCH = 64
_LINE = re.compile(r"after the first shard ([\d.]+) images/s, (\d+)% of .*; peak GB: (.*)")


@dataclass(frozen=True)
class Contestant:
    """What runs, in how many processes (of a job: workers), on which pictures."""

    kind: str
    processes: int = 1
    split: str = "small"


CONTESTANTS = {
    "bare1": Contestant("bare"),
    "job1": Contestant("job"),
    "bare2": Contestant("bare", 2),
    "job2": Contestant("job", 2),
    "webdataset": Contestant("webdataset"),
    "read_webdataset": Contestant("read_webdataset"),
    "decode2": Contestant("decode", 2, "photographs"),
    "photographs1": Contestant("job", 1, "photographs"),
}
RATIOS = (
    *(("job1", "bare1"), ("job2", "bare2"), ("photographs1", "decode2")),
    *(("job1", "webdataset"), ("job1", "read_webdataset")),
)


def steady(batches: Iterable[int]) -> float:
    """Items a second of all batches (their sizes) but the first."""
    begin, done = 0.0, 0
    for size in batches:
        done += size if begin else 0
        begin = begin or time.perf_counter()
    return done / (time.perf_counter() - begin)


def bare(split: str, model: str) -> Iterator[int]:
    """Nothing but the model."""
    loaded = SPAE.from_pretrained(model)
    pictures = [
        decode_pictures(read_whole(shard), loaded.config.input_size).pixels for shard in load_index(split).shards
    ]
    batches = [pixels[first : first + BATCH] for pixels in pictures for first in range(0, len(pixels), BATCH)]
    return (len(encode_in_batches(loaded, batch, BATCH)) for batch in batches)


def decode(split: str, model: str) -> Iterator[int]:
    """Everything but the model."""
    size = SPAE.from_pretrained(model).config.input_size
    return (len(decode_pictures(read_whole(shard), size).keys) for shard in load_index(split).shards)


def with_webdataset(split: str, model: str) -> Iterator[int]:
    """What people write first."""
    import webdataset

    loaded = SPAE.from_pretrained(model)
    urls = [shard.url for shard in load_index(split).shards]
    dataset = webdataset.WebDataset(urls, shardshuffle=False).decode("torchrgb8").to_tuple("__key__", "png")
    loader = torch.utils.data.DataLoader(dataset.batched(BATCH), batch_size=None, num_workers=1)
    return (len(loaded.encode(torch.as_tensor(np.stack(pixels)))) for _, pixels in loader)


class Encoder:
    """For Ray Data."""

    def __init__(self, model: str) -> None:
        torch.set_num_threads(1)
        self.model = SPAE.from_pretrained(model)

    def __call__(self, batch: dict) -> dict:
        pixels = torch.from_numpy(np.stack(batch["pixels"])).permute(0, 3, 1, 2)
        return {"key": batch["key"], "words": self.model.encode(pixels).flatten().numpy()}


def with_read_webdataset(split: str, model: str) -> Iterator[int]:
    """Ray Data's own chain."""
    import ray

    from jobs.cluster import connect

    connect("local", num_cpus=2)
    files = [shard.url for shard in load_index(split).shards]
    rows = ray.data.read_webdataset(files, decoder=None).map(_decoded, num_cpus=0.25)
    words = rows.map_batches(
        Encoder,
        fn_constructor_args=[model],
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=0.75,
    )
    return (len(batch["key"]) for batch in words.iter_batches(batch_size=None))


def _decoded(row: dict) -> dict:
    return {"key": row["__key__"], "pixels": np.asarray(Image.open(io.BytesIO(row["png"])).convert("RGB"))}


IN_PROCESS = {"bare": bare, "decode": decode, "webdataset": with_webdataset, "read_webdataset": with_read_webdataset}


def large_photographs(count: int, side: int) -> list[Sample]:
    """JPEG files of so many pixels a short side, each another part of a photograph."""
    found = []
    for number in range(count):
        pixels = np.roll(photographs()[number % 3], 17 * number, axis=1)
        large = Image.fromarray(pixels).resize((side * 4 // 3, side), Image.Resampling.BICUBIC)
        found.append((f"photograph-{number:04d}", encode_jpeg(np.asarray(large), 90), None))
    return found


def start(module: str, *arguments: str) -> subprocess.Popen:
    """A process of this checkout."""
    command = [sys.executable, "-m", module, *arguments]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


def measure(contestant: Contestant, split: str, model: str) -> dict[str, object]:
    """Images a second of a contestant, of all its processes together; of a job what else its last lines tell."""
    if contestant.kind == "job":
        with tempfile.TemporaryDirectory() as output:
            flags = ["--model", model, "--input", split, "--output", output, "--workers", str(contestant.processes)]
            _, said = start("jobs.tokenize_shards", *flags, "--batch", str(BATCH)).communicate()
        if (line := _LINE.search(said)) is None:
            raise RuntimeError(said)
        return {"images/s": float(line[1]), "% of its ceiling": int(line[2]), "peak GB": line[3]}
    inside = [start(__spec__.name, "--inside", contestant.kind, split, model) for _ in range(contestant.processes)]
    for process in inside:  # all have loaded what they need before any begins
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(process.communicate()[1])
    for process in inside:
        process.stdin.write("begin\n")
        process.stdin.flush()
    ended = [process.communicate() for process in inside]
    return {"images/s": sum(float(out) for out, _ in ended)}


def run_inside(kind: str, split: str, model: str) -> None:
    """What runs in a contestant's own process: tells when it is ready, waits, tells its rate."""
    torch.set_num_threads(1)
    batches = IN_PROCESS[kind](split, model)
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    print(steady(batches))  # noqa: T201


def tell(found: Mapping[str, list[dict]]) -> None:
    """A line a contestant, and one a ratio."""
    rates = {name: [row.pop("images/s") for row in rows] for name, rows in found.items()}
    for name, values in rates.items():
        shown = {"images/s": statistics.median(values), "from": min(values), "to": max(values), **found[name][-1]}
        print(json.dumps({"contestant": name, **shown}))  # noqa: T201
    for one, other in RATIOS:
        if one in rates and other in rates:
            each = [a / b for a, b in zip(rates[one], rates[other], strict=True)]
            shown = {key: round(value, 3) for key, value in (("median", statistics.median(each)), ("from", min(each)))}
            print(json.dumps({"ratio": f"{one} / {other}", **shown, "to": round(max(each), 3)}))  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="digits")
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--pictures", type=int, default=384, help="of a shard of small pictures")
    parser.add_argument("--side", type=int, default=32, help="of small pictures")
    parser.add_argument("--photographs", type=int, default=24, help="of a shard")
    parser.add_argument("--photograph-side", type=int, default=2400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=CONTESTANTS, default=tuple(CONTESTANTS))
    parser.add_argument("--inside", nargs=3, metavar=("KIND", "SPLIT", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        run_inside(*options.inside)
        return
    with tempfile.TemporaryDirectory() as folder:
        small = [samples(options.pictures, seed, options.side) for seed in range(options.shards)]
        large = [large_photographs(options.photographs, options.photograph_side)] * options.shards
        splits = {
            "small": write_split(Path(folder) / "small", small),
            "photographs": write_split(Path(folder) / "photographs", large, suffix="jpg"),
        }
        found: dict[str, list[dict]] = {name: [] for name in options.only}
        for _ in range(options.rounds):
            for name in options.only:
                contestant = CONTESTANTS[name]
                found[name].append(measure(contestant, splits[contestant.split], options.model))
    tell(found)


if __name__ == "__main__":
    main()
