"""Tokenizing in bulk beside what else could be done: images a second after the first batch or shard, on this machine.

    python -m tests.benchmarks.bench_tokenize                          # the digits' model and random pictures
    python -m tests.benchmarks.bench_tokenize --shards 1000 --only job1    # memory over many shards

Contestants, each in processes of its own, one after the other in every round:

    bare1, bare2     one process, or two beside each other: encode batches of pictures that are decoded and in memory
    job1, job2       python -m jobs.tokenize_shards --workers 1, or 2: reads, decodes, encodes, publishes
    webdataset       webdataset and a DataLoader with one worker, to the same words, which are not written
    read_webdataset  ray.data.read_webdataset, a map that decodes, one that encodes, write_parquet
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
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from spae.data.records import load_index
from spae.evaluation.pictures import decode_pictures, encode_in_batches, read_whole
from spae.model import SPAE
from tests.tiny_shards import samples, write_split

ROOT = Path(__file__).parents[2]
BARE, JOBS = {"bare1": 1, "bare2": 2}, {"job1": 1, "job2": 2}
CONTESTANTS = (*BARE, *JOBS, "webdataset", "read_webdataset")
BATCH = 64
_LINE = re.compile(r"after the first shard ([\d.]+) images/s, (\d+)% of .*; peak GB: (.*)")


def steady(batches: Iterable[int]) -> float:
    """Items a second of all batches (their sizes) but the first."""
    begin, done = 0.0, 0
    for size in batches:
        done += size if begin else 0
        begin = begin or time.perf_counter()
    return done / (time.perf_counter() - begin)


def bare(split: str, model: str) -> float:
    """One process: nothing but the model."""
    loaded = SPAE.from_pretrained(model)
    pictures = [
        decode_pictures(read_whole(shard), loaded.config.input_size).pixels for shard in load_index(split).shards
    ]
    return steady(len(encode_in_batches(loaded, pixels, BATCH)) for pixels in pictures)


def with_webdataset(split: str, model: str) -> float:
    """What people write first."""
    import webdataset

    loaded = SPAE.from_pretrained(model)
    urls = [shard.url for shard in load_index(split).shards]
    dataset = webdataset.WebDataset(urls, shardshuffle=False).decode("torchrgb8").to_tuple("__key__", "png")
    loader = torch.utils.data.DataLoader(dataset.batched(BATCH), batch_size=None, num_workers=1)
    return steady(len(loaded.encode(torch.as_tensor(np.stack(pixels)))) for _, pixels in loader)


class Encoder:
    """For Ray Data."""

    def __init__(self, model: str) -> None:
        torch.set_num_threads(1)
        self.model = SPAE.from_pretrained(model)

    def __call__(self, batch: dict) -> dict:
        pixels = torch.from_numpy(np.stack(batch["pixels"])).permute(0, 3, 1, 2)
        return {"key": batch["key"], "words": self.model.encode(pixels).flatten().numpy()}


def with_read_webdataset(split: str, model: str) -> float:
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
    return steady(len(batch["key"]) for batch in words.iter_batches(batch_size=None))


def _decoded(row: dict) -> dict:
    from PIL import Image

    return {"key": row["__key__"], "pixels": np.asarray(Image.open(io.BytesIO(row["png"])).convert("RGB"))}


IN_PROCESS = {"bare": bare, "webdataset": with_webdataset, "read_webdataset": with_read_webdataset}


def start(module: str, *arguments: str) -> subprocess.Popen:
    """A process of this checkout."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def measure(name: str, split: str, model: str) -> dict[str, object]:
    """Images a second of a contestant, of all its processes together; of a job what else its last lines tell."""
    if name in JOBS:
        with tempfile.TemporaryDirectory() as output:
            flags = ["--model", model, "--input", split, "--output", output, "--workers", str(JOBS[name])]
            _, said = start("jobs.tokenize_shards", *flags, "--batch", str(BATCH)).communicate()
        if (line := _LINE.search(said)) is None:
            raise RuntimeError(said)
        return {"images/s": float(line[1]), "% of its ceiling": int(line[2]), "peak GB": line[3]}
    inside = [start(__spec__.name, "--inside", name.rstrip("12"), split, model) for _ in range(BARE.get(name, 1))]
    ended = [process.communicate() for process in inside]
    try:
        return {"images/s": sum(float(out.splitlines()[-1]) for out, _ in ended)}
    except (ValueError, IndexError):
        raise RuntimeError("\n".join(error for _, error in ended)) from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="digits")
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--pictures", type=int, default=512, help="of a shard")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument("--inside", nargs=3, metavar=("CONTESTANT", "SPLIT", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        torch.set_num_threads(1)
        name, split, model = options.inside
        print(IN_PROCESS[name](split, model))  # noqa: T201
        return
    with tempfile.TemporaryDirectory() as folder:
        shards = (samples(options.pictures, seed, options.side) for seed in range(options.shards))
        split = write_split(Path(folder) / "split", list(shards))
        found: dict[str, list[dict]] = {name: [] for name in options.only}
        for _ in range(options.rounds):
            for name in options.only:
                found[name].append(measure(name, split, options.model))
    for name, rows in found.items():
        rates = [row.pop("images/s") for row in rows]
        shown = {"images/s": statistics.median(rates), "from": min(rates), "to": max(rates), **rows[-1]}
        print(json.dumps({"contestant": name, **shown}))  # noqa: T201


if __name__ == "__main__":
    main()
