"""Planning a split of many inputs: time and memory, which must not grow with their number.

The inputs are members of 21,841 tars, as ImageNet-21k has them, at any number. What a source itself takes to list them
(here the making of Python objects) is measured apart.

    python -m tests.benchmarks.bench_plan --keys 100_000_000
"""

import argparse
import itertools
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.planning.plan import ShardSettings, plan_into
from pipelines.samples.images import ImageSamples
from spae.data.records import ClassName
from spae.data.sources import Entry, SourceSettings

CLASSES = 21_841
SAMPLE = 1_000_000
"""Inputs whose making is measured apart."""


@dataclass(frozen=True)
class SyntheticSource:
    """So many members of tars, of which one in a million shares its key with another and one in a thousand is empty."""

    keys: int

    def classes(self) -> tuple[ClassName, ...]:
        return tuple(ClassName(label, f"class {label}", f"n{label:08d}") for label in range(CLASSES))

    def entries(self) -> Iterator[Entry]:
        for number in range(self.keys):
            label = number * CLASSES // self.keys
            key = f"n{label:08d}_{number - (number % 1_000_000 == 999_999)}"
            size = 0 if number % 1000 == 0 else 50_000 + number % 99_991
            problem = "" if size else "empty file"
            yield Entry(key, f"n{label:08d}.tar", label, size, problem, offset=number * 110_592)

    def read(self, entry: Entry, limit: int) -> bytes:
        raise NotImplementedError


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keys", type=int, default=2_000_000)
    parser.add_argument("--samples-per-shard", type=int, default=1000)
    parser.add_argument("--output", default="runs/bench/plan.json")
    options = parser.parse_args(argv)
    source = SyntheticSource(options.keys)
    settings = ShardSettings(
        source=SourceSettings(name="folder", url="synthetic", split="train"),
        samples=ImageSamples(),
        seed=0,
        samples_per_shard=options.samples_per_shard,
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.monotonic()
    for _ in itertools.islice(source.entries(), SAMPLE):
        pass
    listing = (time.monotonic() - begin) / min(SAMPLE, options.keys)
    with tempfile.TemporaryDirectory(prefix="spae-plan-") as folder:
        begin = time.monotonic()
        plan = plan_into(folder, settings, source, None)
        seconds = time.monotonic() - begin
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    assert plan.inputs == options.keys
    used = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    facts = {
        "keys": options.keys,
        "shards": len(plan.shards),
        "seconds": seconds,
        "microseconds_an_input": seconds / options.keys * 1e6,
        "microseconds_of_making_it": listing * 1e6,
        "peak_memory_mb": sum(used) / 1e3,
        "memory_before_mb": before / 1e3,
        "bytes_an_input_on_disk": size / options.keys,
        "fingerprint": plan.fingerprint,
    }
    sys.stdout.write(json.dumps(facts, indent=1) + "\n")
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    Path(options.output).write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
