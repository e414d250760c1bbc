"""Samples that kill the process that decodes them, on a real cluster: dead letters, and the others as ever."""

import dataclasses
import functools
import os
import signal

import pyarrow.parquet as pq
import pytest
import ray

from jobs.cluster import connect
from jobs.tokens.actors import ModelActors
from jobs.tokens.job import TokenJob
from jobs.tokens.messages import TokenizedShard
from jobs.tokens.plan import TokenPlan
from jobs.tokens.run import tokenize
from spae.data.augmentation import load_picture
from spae.data.records import load_index
from tests.tiny_shards import samples, write_split
from tests.tiny_tokens import token_job, tokenize_shard

pytestmark = pytest.mark.slow
DEADLY = b"a picture that kills"


class DeadlyJob(TokenJob):
    """A job with a decoder that one input crashes, as a segmentation fault does."""

    @property
    def cut(self):
        return functools.partial(decode, size=self.input_size)


def decode(key, media, *, size):
    if media == DEADLY:
        os.kill(os.getpid(), signal.SIGKILL)
    return [load_picture(media, size)]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    connect("local", num_cpus=2)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two shards of nine; the fourth sample of the second kills."""
    made = [samples(9, seed) for seed in range(2)]
    made[1][3] = (made[1][3][0], DEADLY, 0)
    return load_index(write_split(tmp_path_factory.mktemp("split"), made)).shards


@pytest.mark.parametrize("block_bytes", [1 << 28, 4 * 16 * 16 * 3], ids=["whole", "in parts"])
def test_a_sample_that_kills_is_a_dead_letter_and_the_others_have_their_words(model, shards, tmp_path, block_bytes):
    values = dataclasses.asdict(token_job(model, tmp_path / "killed"))
    job = DeadlyJob(**{**values, "block_bytes": block_bytes})
    outcomes = list(
        tokenize(TokenPlan(shards, ()), job, ModelActors(workers=1, cpus=0.75, cpus_beside=0.25, device="cpu"))
    )
    assert all(isinstance(outcome, TokenizedShard) for outcome in outcomes)
    assert sorted((outcome.shard.name, outcome.errors) for outcome in outcomes) == [
        ("test-000000", 0),
        ("test-000001", 1),
    ]
    (row,) = pq.read_table(tmp_path / "killed" / "errors").to_pylist()
    assert (row["key"], row["reason"]) == ("sample-1-0003", "killed its process")
    for shard in shards:  # undisturbed, the same input is no image
        tokenize_shard(token_job(model, tmp_path / "sound"), shard)
        name = f"{shard.name}.parquet"
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "sound" / name).read_bytes()
