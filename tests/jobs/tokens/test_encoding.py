"""Tables as the workers write them, without Ray."""

import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.tokens.decoding import decode_shard
from jobs.tokens.encoding import ShardEncoder
from jobs.tokens.messages import LargeShard, TokenizedShard
from spae.data.records import load_index
from spae.data.token_table import open_token_table, read_token_table
from spae.pyramid import TokenPyramid
from tests import tiny_spae
from tests.tiny_shards import write_split
from tests.tiny_tokens import token_job, tokenize_shard


def test_a_shard_too_large_for_a_block_gives_the_same_table(model, split, tmp_path):
    shard = load_index(split).shards[1]
    tokenize_shard(token_job(model, tmp_path / "block"), shard)
    job = dataclasses.replace(token_job(model, tmp_path / "parts"), block_bytes=4 * 16 * 16 * 3)  # a batch at a time
    decoding = decode_shard(shard, job)
    assert decoding == LargeShard(shard)
    outcome = ShardEncoder(job).tokenize(decoding)
    assert isinstance(outcome, TokenizedShard)
    assert (outcome.shard, outcome.errors) == (shard, 1)
    name = "test-000001.parquet"
    assert (tmp_path / "block" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_tables_of_the_first_layers_hold_what_full_ones_do(model, split, tmp_path):
    shard = load_index(split).shards[1]
    tokenize_shard(token_job(model, tmp_path / "every"), shard)
    tokenize_shard(token_job(model, tmp_path / "first", layers=2), shard)
    name = f"{shard.name}.parquet"
    assert pq.read_schema(tmp_path / "first" / name).names == ["key", "label", "clip", "layer_1", "layer_2"]
    rows, footer = read_token_table(str(tmp_path / "first" / name))
    every, full = read_token_table(str(tmp_path / "every" / name), layers=2)
    assert (footer.layers, full.layers, footer.grids) == (2, 4, full.grids)
    assert (rows.keys, rows.labels) == (every.keys, every.labels)
    assert [one.tolist() for one in rows.layers] == [one.tolist() for one in every.layers]


def test_readers_take_what_is_stored_and_name_what_is_not(model, split, tmp_path):
    shard, fingerprint = load_index(split).shards[0], tiny_spae.model().fingerprint
    tokenize_shard(token_job(model, tmp_path, layers=2), shard)
    assert len(open_token_table(str(tmp_path), shard, fingerprint, 2).layers) == 2
    with pytest.raises(ValueError, match="stores 2 layers of 4, not 3; write tables with more"):
        open_token_table(str(tmp_path), shard, fingerprint, 3)
    with pytest.raises(ValueError, match="stores 2 layers of 4; here all are needed"):
        open_token_table(str(tmp_path), shard, fingerprint)


def test_words_and_the_language_models_ids_stand_in_columns_of_their_own(model, split, tmp_path):
    shard, vocabulary = load_index(split).shards[1], tiny_spae.vocabulary()
    job = dataclasses.replace(token_job(model, tmp_path, layers=3), text_layers=2, llm_ids=True)
    tokenize_shard(job, shard)
    url = str(tmp_path / f"{shard.name}.parquet")
    rows, footer = read_token_table(url)
    assert (footer.columns, footer.text_layers, footer.layers) == (("text", "llm_ids"), 2, 3)
    table = pq.read_table(url, columns=["text", "llm_ids"])
    assert table.schema.field("llm_ids").type.list_size == 1 + 4 + 16
    pyramid = TokenPyramid.from_arrays(rows.layers)
    assert table["text"].to_pylist() == [" ".join(words) for words in vocabulary.words(pyramid, 2)]
    assert table["llm_ids"].to_pylist() == vocabulary.llm_ids[pyramid.flatten()].tolist()


def test_optional_columns_of_no_rows_have_their_types(model, tmp_path):
    split = write_split(tmp_path / "split", [[("a", b"broken", 1)]])
    job = dataclasses.replace(token_job(model, tmp_path, layers=2), text_layers=1, llm_ids=True)
    tokenize_shard(job, load_index(split).shards[0])
    schema = pq.read_schema(tmp_path / "test-000000.parquet")
    assert schema.names == ["key", "label", "clip", "layer_1", "layer_2", "text", "llm_ids"]
    assert schema.field("llm_ids").type == pa.list_(pa.int32(), 5)


def test_a_shard_without_any_picture_has_an_empty_table_of_its_layers(model, tmp_path):
    split = write_split(tmp_path / "split", [[("a", b"broken", 1)]])
    tokenize_shard(token_job(model, tmp_path, layers=3), load_index(split).shards[0])
    rows, footer = read_token_table(str(tmp_path / "test-000000.parquet"))
    assert ([layer.shape for layer in rows.layers], footer.errors) == ([(0, 1, 1), (0, 2, 2), (0, 4, 4)], 1)


def test_a_model_that_changed_since_the_start_is_refused(model, tmp_path):
    job = dataclasses.replace(token_job(model, tmp_path), model_fingerprint="0" * 64)
    with pytest.raises(ValueError, match="was 0000"):
        ShardEncoder(job)
