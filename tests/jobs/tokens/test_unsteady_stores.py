"""Tokenizing from and to Google's store, in its emulator behind a proxy that fails."""

import fsspec
import pytest

from jobs import retries
from jobs.tokens.messages import FailedShard, TokenizedShard
from spae.data.records import load_index
from spae.data.token_table import find_token_tables
from tests.pipelines.conftest import google_storage, unsteady  # noqa: F401
from tests.tiny_tokens import token_job, tokenize_shard, tokenize_split

NAMES = [f"test-{number:06d}" for number in range(3)]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(retries, "PAUSES", (0, 0, 0))


@pytest.fixture
def stored(split, unsteady):  # noqa: F811
    """The split in the bucket, from where on requests may fail."""
    fsspec.filesystem("gs").put(split, "bucket/split", recursive=True)
    unsteady.status = 409
    return "gs://bucket/split"


def tokenize(model, url):
    """What becomes of each shard."""
    job = token_job(model, "gs://bucket/tokens")
    return [tokenize_shard(job, shard) for shard in load_index(url).shards]


def test_requests_that_fail_now_and_then_lose_nothing(model, split, stored, unsteady, tmp_path):  # noqa: F811
    shards = load_index(stored).shards
    job = token_job(model, "gs://bucket/tokens")
    unsteady.period = 7
    assert [tokenize_shard(job, shard) for shard in shards] == [
        TokenizedShard(shard, errors) for shard, errors in zip(shards, (0, 1, 0), strict=True)
    ]
    assert len(unsteady.refused) > 2
    unsteady.period = 0
    tokenize_split(model, split, tmp_path)
    for name in NAMES:
        with fsspec.open(f"gs://bucket/tokens/{name}.parquet", "rb") as file:
            assert file.read() == (tmp_path / f"{name}.parquet").read_bytes()


def test_a_shard_that_cannot_be_read_fails_alone_and_is_named(model, stored, unsteady):  # noqa: F811
    shards = load_index(stored).shards
    unsteady.period, unsteady.part = 1, "test-000001.tar"
    found = tokenize(model, stored)
    assert [type(one) for one in found] == [TokenizedShard, FailedShard, TokenizedShard]
    assert found[1].shard == shards[1]
    assert "409" in found[1].reason
    assert len(unsteady.refused) >= 4
    assert sorted(find_token_tables("gs://bucket/tokens")) == [NAMES[0], NAMES[2]]


def test_a_table_that_cannot_be_published_fails_its_shard_alone(model, stored, unsteady):  # noqa: F811
    unsteady.period, unsteady.part = 1, "POST /upload"
    found = tokenize(model, stored)
    assert {type(one) for one in found} == {FailedShard}
    unsteady.period = 0
    assert {type(one) for one in tokenize(model, stored)} == {TokenizedShard}
