"""Tables as the workers write them, without Ray."""

import dataclasses

import pytest

from jobs.tokens.decoding import decode_shard
from jobs.tokens.encoding import ShardEncoder
from jobs.tokens.messages import LargeShard, TokenizedShard
from spae.data.records import load_index
from tests.tiny_tokens import token_job, tokenize_shard


def test_a_shard_too_large_for_a_block_gives_the_same_table(model, split, tmp_path):
    shard = load_index(split).shards[1]
    tokenize_shard(token_job(model, tmp_path / "block"), shard)
    job = dataclasses.replace(token_job(model, tmp_path / "parts"), block_bytes=4 * 16 * 16 * 3)  # a batch at a time
    decoding = decode_shard(shard, job)
    assert decoding == LargeShard(shard)
    assert ShardEncoder(job).tokenize(decoding) == TokenizedShard(shard, errors=1)
    name = "test-000001.parquet"
    assert (tmp_path / "block" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_a_model_that_changed_since_the_start_is_refused(model, tmp_path):
    job = dataclasses.replace(token_job(model, tmp_path), model_fingerprint="0" * 64)
    with pytest.raises(ValueError, match="was 0000"):
        ShardEncoder(job)


def test_old_dead_letters_go_when_a_shard_is_sound(model, split, tmp_path):
    shards = load_index(split).shards
    stale = tmp_path / "errors" / f"{shards[0].name}.jsonl"
    stale.parent.mkdir()
    stale.write_text("{}\n")
    tokenize_shard(token_job(model, tmp_path), shards[0])
    assert not stale.exists()
