"""Decoding a shard, on any CPU of the cluster.

A shard is one all the way, so that batches never cross a shard and a table is written by one process.
"""

import functools
import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError

from jobs.retries import persistently
from jobs.tokens.job import TokenJob
from jobs.tokens.messages import DecodedShard, Decoding, FailedShard, LargeShard
from jobs.tokens.metrics import timed
from jobs.tokens.reading import read_shard
from jobs.tokens.usage import peak_memory
from spae.data.augmentation import load_picture
from spae.data.isolation import IsolatedProcess
from spae.data.sources import Shard, SourceShard
from spae.data.tar import Sample
from spae.evaluation.pictures import DecodedPictures, Undecodable, decode_pictures


@timed("decode")
def decode_shard(shard: Shard, job: TokenJob, *, isolated: bool = False) -> Decoding:
    """Read and decode a shard, unless it is too large or may be; one that cannot be read has failed.

    `isolated`: see `decode_samples`.
    """
    reading = f"reading {shard.url}"
    try:
        if isinstance(shard, SourceShard):
            shard = persistently(reading, shard.counted)
        if shard.samples is None or shard.samples * _sample_bytes(job) > job.block_bytes:
            return LargeShard(shard, peak_memory())
        pictures = persistently(reading, lambda: decode_samples(read_shard(shard), job, isolated=isolated))
    except Exception as error:  # of whatever library the store needs: the other shards go on
        return FailedShard(shard, str(error) or repr(error))
    return DecodedShard(shard, pictures, peak_memory())


def decode_samples(
    samples: Iterable[Sample | Undecodable], job: TokenJob, *, isolated: bool = False
) -> DecodedPictures:
    """Decode consecutive samples; `isolated` in a process of its own, which a sample may kill at its own cost."""
    if not isolated:
        return decode_pictures(samples, job.input_size, job.cut)
    with IsolatedProcess() as process:
        cut = job.cut or functools.partial(_decode_one, size=job.input_size)
        return decode_pictures(samples, job.input_size, lambda key, media: process.call(cut, key, media))


def _decode_one(key: str, media: bytes, *, size: tuple[int, ...]) -> list[NDArray[np.uint8]]:
    return [load_picture(media, size)]


def decoded_bytes(shard: Shard, job: TokenJob) -> int:
    """What a shard takes between processes, or at most."""
    if shard.samples is None:
        return job.block_bytes
    return min(job.block_bytes, shard.samples * _sample_bytes(job))


def decode_parts(shard: Shard, job: TokenJob) -> Iterator[DecodedPictures]:
    """The pictures of a large shard, part by part and in order.

    This process reads the tar once; tasks of Ray decode, several parts at once, where it is connected to Ray.
    """
    batch_bytes = job.batch * _sample_bytes(job) // job.rows_of_sample
    rows = max(1, job.block_bytes // (job.parts_at_once * batch_bytes)) * job.batch
    samples = read_shard(shard)
    parts = iter(lambda: list(itertools.islice(samples, max(1, rows // job.rows_of_sample))), [])
    yield from _decode(parts, job)


def _sample_bytes(job: TokenJob) -> int:
    return 3 * math.prod(job.input_size) * job.rows_of_sample


def _decode(parts: Iterable[list[Sample | Undecodable]], job: TokenJob) -> Iterator[DecodedPictures]:
    if not ray.is_initialized():
        yield from (decode_samples(part, job) for part in parts)
        return
    task: Any = ray.remote(num_cpus=job.decoder_cpus)(decode_samples)
    pending: deque[tuple[ray.ObjectRef, list[Sample | Undecodable]]] = deque()

    def first() -> DecodedPictures:
        ref, part = pending.popleft()
        try:
            pictures: DecodedPictures = ray.get(ref)
        except RayError:  # its process died each time
            pictures = ray.get(task.remote(part, job, isolated=True))
        return pictures

    for part in parts:
        if len(pending) == job.parts_at_once:
            yield first()
        pending.append((task.remote(part, job), part))
    while pending:
        yield first()
