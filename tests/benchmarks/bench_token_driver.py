"""The driver of a tokenizing run over many shards: time a shard and memory, which must not grow with their number.

Plan, pool and catalog are those of the command; the actor reads nothing and answers at once. One size a process:

    for shards in 1_000 10_000 100_000; do python -m tests.benchmarks.bench_token_driver --shards $shards; done
"""

import argparse
import json
import time

import psutil
import ray

from jobs.cluster import connect
from jobs.tokens.actors import ModelActors
from jobs.tokens.catalog import TableCatalog
from jobs.tokens.messages import FailedShard, TokenizedShard
from jobs.tokens.plan import make_plan
from jobs.tokens.pool import ActorPool
from jobs.tokens.usage import Usage
from spae.data.records import ShardInfo
from spae.data.token_table import FoundTokenTable, TokenTableFooter

FOOTER = {
    "schema_version": 1,
    "model_fingerprint": "sha256:" + "0" * 64,
    "words_fingerprint": "sha256:" + "1" * 64,
    "grids": ((1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (16, 16)),
    "layers": 6,
}


class Instant:
    """What encodes nothing."""

    def __init__(self, job: object) -> None:
        pass

    def tokenize(self, shard: ShardInfo) -> TokenizedShard:
        own = {"source_shard": shard.name, "source_sha256": shard.sha256, "samples": shard.samples, "errors": 0}
        footer = TokenTableFooter(**FOOTER, **own, device="cpu", dtype="float32", batch=64, code_version="0")
        return TokenizedShard(shard, footer, 1, Usage("", 0.0, 0, 0))


def prepared(shard: ShardInfo) -> ShardInfo:
    """What decodes nothing."""
    return shard


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shards", type=int, default=1_000)
    count = parser.parse_args(arguments).shards
    connect("local", num_cpus=2)
    process, actors = psutil.Process(), ModelActors(workers=1, cpus=0.75, cpus_beside=0.25, device="cpu")
    memory = {"start": process.memory_info().rss}
    shards = [
        ShardInfo(f"gs://bucket/shards/train/train-{number:06d}.tar", 1_000, 10**8, f"{number:064x}")
        for number in range(count)
    ]
    memory["list of shards"] = process.memory_info().rss
    catalog = TableCatalog()
    plan = make_plan(shards, catalog, FOOTER, replace=False)
    memory["plan"] = process.memory_info().rss
    prepare = ray.remote(num_cpus=0.25)(prepared)
    pool = ActorPool(
        lambda: actors.start(Instant, None, calls=2),
        "tokenize",
        actors.pool_size(may_grow=False),
        FailedShard,
        prepare.remote,
    )
    begin, used, seen = time.monotonic(), sum(process.cpu_times()[:2]), 0
    for outcome in pool.run(plan.todo):
        if not seen:  # the actor is there
            begin, used = time.monotonic(), sum(process.cpu_times()[:2])
        seen += 1
        catalog.put(outcome.shard.name, FoundTokenTable(outcome.footer, outcome.bytes))
    assert seen == len(catalog) == count
    memory["run"] = process.memory_info().rss
    seconds = {"wall": time.monotonic() - begin, "CPU of the driver": sum(process.cpu_times()[:2]) - used}
    each = {name: round(value / count * 1e3, 3) for name, value in seconds.items()}
    megabytes = {name: value // 10**6 for name, value in memory.items()}
    print(json.dumps({"shards": count, "ms a shard": each, "MB": megabytes}))  # noqa: T201
    ray.shutdown()


if __name__ == "__main__":
    main()
