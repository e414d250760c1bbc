"""Tokenizing from and to Google's store, in its emulator behind a proxy that fails."""

import os
import subprocess
import sys

import fsspec
import pytest

from jobs import retries
from jobs.tokens.messages import FailedShard, TokenizedShard
from spae.data.records import load_index
from spae.data.sources import IMAGE_PATTERNS, find_shards
from spae.data.token_table import find_token_tables, read_token_table
from tests.image_layouts import img2dataset, jpegs, tar_bytes, write_files
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
    outcomes = [tokenize_shard(job, shard) for shard in shards]
    assert [(one.shard, one.errors) for one in outcomes] == list(zip(shards, (0, 1, 0), strict=True))
    assert len(unsteady.refused) > 2
    unsteady.period = 0
    tokenize_split(model, split, tmp_path)
    for name in NAMES:
        with fsspec.open(f"gs://bucket/tokens/{name}.parquet", "rb") as file:
            assert file.read() == (tmp_path / f"{name}.parquet").read_bytes()


def test_a_folder_of_pictures_and_a_tar_of_others_in_a_store_lose_nothing(model, unsteady, tmp_path):  # noqa: F811
    pictures = {f"photos/{number}.jpg": data for number, data in enumerate(jpegs(4))}
    write_files(tmp_path, {**pictures, "tars/00000.tar": tar_bytes(img2dataset(4))})
    store = fsspec.filesystem("gs")
    for folder in ("photos", "tars"):
        store.put(str(tmp_path / folder), f"bucket/{folder}", recursive=True)
    inputs = [f"gs://bucket/{folder}" for folder in ("photos", "tars")]
    shards = find_shards(inputs, 100, IMAGE_PATTERNS)
    assert shards == find_shards(inputs, 100, IMAGE_PATTERNS)
    unsteady.status, unsteady.period = 409, 5
    local_shards = find_shards([str(tmp_path / name) for name in ("photos", "tars")], 100, IMAGE_PATTERNS)
    for shard, local in zip(shards, local_shards, strict=True):
        outcomes = [
            tokenize_shard(token_job(model, tmp_path / part), one) for part, one in (("a", shard), ("b", local))
        ]
        assert [(outcome.shard.samples, outcome.errors) for outcome in outcomes] == [(4, 0), (4, 0)]
        tables = [read_token_table(f"{tmp_path}/{part}/{shard.name}.parquet")[0] for part in ("a", "b")]
        assert tables[0].keys == tables[1].keys
        assert [one.tolist() for one in tables[0].layers] == [one.tolist() for one in tables[1].layers]
    assert unsteady.refused


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


@pytest.mark.slow
def test_a_run_ends_with_status_1_and_all_tables_but_one(model, stored, unsteady):  # noqa: F811
    """A run of its own: its workers try again for half a minute."""
    unsteady.period, unsteady.part = 1, "test-000001.tar"
    environment = {"FSSPEC_GS_TOKEN": "anon", "FSSPEC_GS_ENDPOINT_URL": os.environ["STORAGE_EMULATOR_HOST"]}
    flags = ["--model", model, "--input", stored, "--output", "gs://bucket/tokens", "--max-error-share", "0.2"]
    command = [sys.executable, "-m", "jobs.tokenize_shards", *flags]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    assert "test-000001 gets no table: Unavailable, 409" in done.stderr
    assert "in 21, out 16, failed 5;" in done.stderr
    assert "1 shards have no table: test-000001; mend them and rerun" in done.stderr
    assert sorted(find_token_tables("gs://bucket/tokens")) == [NAMES[0], NAMES[2]]
    unsteady.period = 0
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "in 5, out 4, failed 1; skipped 16 that were done" in done.stderr
