"""What Ray's dashboard (and Prometheus by it) sees of a tokenizing run: the driver's counts, seconds of each role.

Ray exports them from every node as `ray_spae_tokenize_...`; a process that is not connected to Ray counts nothing.
"""

import contextlib
import functools
import time
from collections.abc import Iterator
from typing import Literal

import ray
from ray.util.metrics import Counter, Histogram

from jobs.tokens.messages import Outcome, TokenizedShard

Role = Literal["decode", "encode", "publish"]
_BOUNDARIES = [0.1, 0.3, 1, 3, 10, 30, 100, 300]


def count(outcome: Outcome) -> None:
    """Count what became of a shard."""
    done = isinstance(outcome, TokenizedShard)
    errors = outcome.errors if isinstance(outcome, TokenizedShard) else outcome.shard.samples or 0
    _counter("shards", "Shards, by whether they have a table now", "table").inc(1, {"table": "yes" if done else "no"})
    for name, images, description in (
        ("images", (outcome.shard.samples or 0) - errors, "Samples whose words stand in a table"),
        ("errors", errors, "Samples without words"),
    ):
        if images:
            _counter(name, description).inc(images)


@contextlib.contextmanager
def timed(role: Role) -> Iterator[None]:
    """Note the seconds of one shard in one role; those of encoding hold the decoding of large shards."""
    begin = time.monotonic()
    try:
        yield
    finally:
        if ray.is_initialized():
            _seconds().observe(time.monotonic() - begin, {"role": role})


@functools.cache
def _counter(name: str, description: str, *tags: str) -> Counter:
    return Counter(f"spae_tokenize_{name}", description, tag_keys=tags)


@functools.cache
def _seconds() -> Histogram:
    return Histogram("spae_tokenize_seconds", "Seconds of a shard in a role", _BOUNDARIES, ("role",))
