"""Dead letters as the encoder writes them, without Ray."""

import pyarrow.parquet as pq
import pytest

from jobs import retries
from jobs.tokens import dead_letters
from jobs.tokens.decoding import decode_shard
from jobs.tokens.encoding import ShardEncoder
from jobs.tokens.messages import FailedShard
from spae.data.records import load_index
from spae.data.token_table import TokenTableFooter, read_token_table
from tests.tiny_tokens import token_job, tokenize_shard


def test_dead_letters_are_rows_with_the_footer_of_the_table(model, split, tmp_path):
    shard = load_index(split).shards[1]
    tokenize_shard(token_job(model, tmp_path), shard)
    letters = pq.read_table(tmp_path / "errors" / f"{shard.name}.parquet")
    assert letters.schema.remove_metadata() == dead_letters.DEAD_LETTERS_SCHEMA
    (row,) = letters.to_pylist()
    assert (row["key"], row["source"], row["reason"]) == ("sample-1-0002", shard.url, "no image")
    rows, footer = read_token_table(str(tmp_path / f"{shard.name}.parquet"))
    assert TokenTableFooter.from_metadata(letters.schema.metadata) == footer
    assert len(rows.keys) + letters.num_rows == footer.samples


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_old_dead_letters_go_when_a_shard_is_sound(model, split, tmp_path, suffix):
    shards = load_index(split).shards
    stale = tmp_path / "errors" / f"{shards[0].name}.{suffix}"
    stale.parent.mkdir()
    stale.write_text("{}\n")
    tokenize_shard(token_job(model, tmp_path), shards[0])
    assert not stale.exists()


def test_a_table_never_stands_without_its_dead_letters(model, split, tmp_path, monkeypatch):
    """They are published first: where they cannot be, there is no table."""
    monkeypatch.setattr(retries, "PAUSES", ())
    (tmp_path / "errors").write_text("a file where the folder should be")
    job = token_job(model, tmp_path)
    outcome = ShardEncoder(job).tokenize(decode_shard(load_index(split).shards[1], job))
    assert isinstance(outcome, FailedShard)
    assert list(tmp_path.glob("*.parquet")) == []
