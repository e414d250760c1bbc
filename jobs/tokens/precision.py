"""Encoding with faster networks than float32's, and how many words come out the same."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Literal

import torch

from jobs.tokens.actors import load_for_actor
from jobs.tokens.decoding import decode_parts
from jobs.tokens.job import TokenJob
from spae.data.sources import Shard
from spae.evaluation.pictures import encode_in_batches

Precision = Literal["float32", "tf32", "bfloat16"]
"""Of the encoder's products; the search for the nearest word is exact in any."""


def check_precision(precision: Precision, device: str) -> None:
    """ValueError where a device has no such precision."""
    if precision == "tf32" and device != "cuda":
        raise ValueError("--dtype tf32 is a precision of NVIDIA's GPUs; give --device cuda, or another --dtype")


@contextlib.contextmanager
def computing_in(precision: Precision, device: str) -> Iterator[None]:
    """Inside, the networks compute in this precision."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def measure_agreement(shard: Shard, job: TokenJob) -> float | None:
    """Share of the words of a shard's first pictures that are float32's; None where none can be decoded.

    The pictures are the first part of a shard as large ones are decoded: the same in every run over the same shards.
    """
    model = load_for_actor(job.model, job.model_fingerprint, job.device)
    parts = (part.pixels for part in decode_parts(shard, job) if part.keys)
    for pixels in itertools.islice(parts, 1):
        words = []
        for precision in ("float32", job.dtype):
            with computing_in(precision, job.device):
                words.append(encode_in_batches(model, pixels, job.batch, job.layers).flatten())
        return float((words[0] == words[1]).double().mean())
    return None
