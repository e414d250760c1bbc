"""Sharding images against what the machine can do at all, on real photographs of ImageNet's size.

    python -m tests.benchmarks.bench_images

Header checks against `tar | sha256sum` and a webdataset ShardWriter; decode checks and resizing against the bare loop
in as many processes; and the peak memory of a run with few and with many images. A command's start takes seconds, which
a corpus of a million does not feel: rates are what more images take more of time, and the start is told beside them.
"""

import argparse
import functools
import hashlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image

from spae.data.media import decode_image, encode_jpeg, shrink_image
from tests.photographs import photographs

ROOT = Path(__file__).parents[2]
CLASSES = 20


@dataclass(frozen=True)
class Rate:
    """MB a second of a contestant: median, lowest and highest round, and the median ratio to the first contestant."""

    name: str
    rate: float
    lowest: float
    highest: float
    ratio: float
    start: float  # seconds that no image explains


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--decoded", type=int, default=12_000, help="for decode checks and resizing")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", default="runs/bench/images.json")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = photograph_folder(folder / "made", 2_000)
        many, few = (links(made, folder / str(count), count) for count in (options.images, options.images // 10))
        run = functools.partial(shard, folder / "shards")
        copying = {
            "tar | sha256sum": tar_and_checksum,
            f"spae, header checks, {options.workers} workers": lambda images: run(options.workers, images),
            "spae, header checks, one": lambda images: run(1, images),
            "webdataset ShardWriter": lambda images: plain_writer(images, folder / "plain"),
        }
        found = [*rates(copying, few, many, options.rounds)]
        many, few = (links(made, folder / f"d{count}", count) for count in (options.decoded, options.decoded // 10))
        loop = functools.partial(bare_loop, options.workers)
        for kind, bare, flags in (
            ("decode checks", decode, ("--check", "decode")),
            ("resizing", resize, ("--short-side", "256")),
        ):
            work = {
                f"bare loop, {kind}": functools.partial(loop, bare),
                f"spae, {kind}": lambda images, flags=flags: run(options.workers, images, *flags),
            }
            found += rates(work, few, many, options.rounds)
        memory = {}
        for count in (options.images // 10, options.images):
            memory[count] = peak_of_run(folder / str(count), folder / "shards", options.workers)
            sys.stdout.write(f"{count} images: peak {memory[count]:.0f} MB over all processes\n")
    document = {**vars(options), "rates": [asdict(row) for row in found], "peak_mb": memory}
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    Path(options.output).write_text(json.dumps(document, indent=1) + "\n")


def rates(work: Mapping[str, Callable[[Path], None]], few: Path, many: Path, rounds: int) -> list[Rate]:
    """Rates of contestants in turn, printed as a table."""
    megabytes = {folder: sum(path.stat().st_size for path in folder.rglob("*.jpg")) / 1e6 for folder in (few, many)}
    found: dict[str, list[float]] = {name: [] for name in work}
    starts: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            short, long = seconds(run, few), seconds(run, many)
            found[name].append((megabytes[many] - megabytes[few]) / (long - short))
            starts[name].append(short - megabytes[few] / found[name][-1])
    reference, rows = next(iter(found.values())), []
    sys.stdout.write(f"{'':36}{'MB/s':>8}{'from':>8}{'to':>8}{'ratio':>8}{'start s':>9}\n")
    for name, values in found.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(values, reference, strict=True))
        row = Rate(name, statistics.median(values), min(values), max(values), ratio, statistics.median(starts[name]))
        sys.stdout.write(f"{name:36}{row.rate:8.0f}{row.lowest:8.0f}{row.highest:8.0f}{ratio:8.2f}{row.start:9.1f}\n")
        rows.append(row)
    return rows


def seconds(run: Callable[[Path], None], images: Path) -> float:
    begin = time.monotonic()
    run(images)
    return time.monotonic() - begin


def photograph_folder(root: Path, count: int) -> Path:
    """Class folders of JPEG crops of photographs, 500 x 375, about 100 KB as ImageNet's are."""
    generator, sources = np.random.default_rng(0), photographs()
    for number in range(count):
        picture = Image.fromarray(sources[number % len(sources)])
        width, height = picture.size
        side = generator.uniform(0.5, 1.0) * min(width / 4, height / 3)
        left, top = generator.uniform(0, width - 4 * side), generator.uniform(0, height - 3 * side)
        crop = picture.resize((500, 375), box=(left, top, left + 4 * side, top + 3 * side))
        noisy = np.asarray(crop, dtype=np.int16) + generator.integers(-12, 13, (375, 500, 1), dtype=np.int16)
        folder = root / f"class{number % CLASSES:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        data = encode_jpeg(noisy.clip(0, 255).astype(np.uint8), 94)
        (folder / f"{number:06d}.jpg").write_bytes(data)
    return root


def links(images: Path, root: Path, count: int) -> Path:
    """So many links to them, again from the first where there are fewer."""
    paths = sorted(images.rglob("*.jpg"))
    for number in range(count):
        path = paths[number % len(paths)]
        target = root / path.parent.name / f"{number:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    return root


def command(output: Path, workers: int, images: Path, *flags: str) -> list[str]:
    """That shards these images anew."""
    running = ("--direct_num_workers", str(workers), "--direct_running_mode", "multi_processing")
    places = ("--input", str(images), "--output", str(output), "--split", "train", "--samples-per-shard", "250")
    return [sys.executable, "-m", "pipelines.images", "--source", "folder", *places, *running, *flags]


def shard(output: Path, workers: int, images: Path, *flags: str) -> None:
    """Run the command, its start included."""
    shutil.rmtree(output, ignore_errors=True)
    subprocess.run(command(output, workers, images, *flags), check=True, cwd=ROOT, stderr=subprocess.DEVNULL)


def tar_and_checksum(images: Path) -> None:
    subprocess.run(
        f"tar --hard-dereference -cf - -C {images} . | sha256sum", shell=True, check=True, stdout=subprocess.DEVNULL
    )


def plain_writer(images: Path, output: Path) -> None:
    """What one would write with webdataset alone: no check, no checksum of a tar, no order, no account."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    with webdataset.ShardWriter(str(output / "train-%06d.tar"), maxcount=250, verbose=0) as writer:
        for path in images.rglob("*.jpg"):
            data = path.read_bytes()
            metadata = {"sha256": hashlib.sha256(data).hexdigest()}
            label = int(path.parent.name.removeprefix("class"))
            writer.write({"__key__": path.stem, "jpg": data, "cls": label, "txt": path.parent.name, "json": metadata})


def bare_loop(workers: int, work: Callable[[Path], None], images: Path) -> None:
    """The same work on every file in as many processes, and nothing else."""
    paths = sorted(images.rglob("*.jpg"))
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(work, paths, chunksize=50))


def decode(path: Path) -> None:
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        np.asarray(image.convert("RGB"))


def resize(path: Path) -> None:
    encode_jpeg(shrink_image(decode_image(path.read_bytes(), short_side=256), 256), 95)


def peak_of_run(images: Path, output: Path, workers: int) -> float:
    """Most resident memory in MB of a run's processes together, read every 50 ms."""
    shutil.rmtree(output, ignore_errors=True)
    with subprocess.Popen(command(output, workers, images), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        peak, done = 0.0, threading.Event()
        while process.poll() is None:
            peak = max(peak, sum(map(resident, family(process.pid))))
            done.wait(0.05)
    assert process.returncode == 0
    return peak


def family(root: int) -> list[int]:
    """A process and all below it."""
    found, unseen = [], [root]
    while unseen:
        found.append(unseen.pop())
        for children in Path(f"/proc/{found[-1]}/task").glob("*/children"):
            try:
                unseen += map(int, children.read_text().split())
            except OSError:  # ended meanwhile
                continue
    return found


def resident(process: int) -> float:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


if __name__ == "__main__":
    main()
