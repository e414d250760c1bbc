"""Decoding a shard, on any CPU; importable without Ray.

One row is one shard all the way, so that batches never cross a shard and a table is written by one process.
"""

import math

import numpy as np

from jobs.tokens.job import TokenJob
from jobs.tokens.messages import DecodedShard, Decoding, FailedShard, LargeShard, Row, to_row
from spae.data.records import ShardInfo
from spae.evaluation.pictures import DecodedPictures, read_pictures


def decode_row(row: Row, job: TokenJob) -> Row:
    """The same for Ray: a row of a ShardInfo in, one of what decoding tells out."""
    return to_row(decode_shard(ShardInfo(**row), job))


def decode_shard(shard: ShardInfo, job: TokenJob) -> Decoding:
    """Read and decode a shard, unless it is too large; a damaged one has failed."""
    if shard.samples * 3 * math.prod(job.input_size) > job.block_bytes:
        return LargeShard(shard)
    try:
        parts = list(read_pictures(shard, job.input_size))  # one, where the index tells the truth
    except (OSError, ValueError) as error:
        return FailedShard(shard, str(error) or repr(error))
    empty = DecodedPictures((), (), np.empty((0, *job.input_size, 3), np.uint8), ())
    return DecodedShard(shard, parts[0] if parts else empty)
