"""Token tables, their footers and the plan, without Ray."""

import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.tokens.plan import make_plan, table_identity
from jobs.tokens.stages import ShardEncoder, decode_shard
from jobs.tokens.tables import (
    FoundTable,
    TableFooter,
    find_tables,
    open_tokens,
    publish_manifest,
    read_tokens,
    write_table,
)
from spae.data.publishing import read_bytes
from spae.data.records import load_index
from tests import tiny_spae
from tests.tiny_shards import samples, write_split
from tests.tiny_tokens import token_job, tokenize_shard, tokenize_split


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Three shards; the third sample of the second cannot be decoded."""
    shards = [samples(count, seed) for seed, count in enumerate((9, 5, 7))]
    shards[1][2] = (shards[1][2][0], b"broken", 1)
    return write_split(tmp_path_factory.mktemp("split"), shards)


def test_a_shard_too_large_for_a_block_gives_the_same_table(model, split, tmp_path, monkeypatch):
    shard = load_index(split).shards[1]
    tokenize_shard(token_job(model, tmp_path / "block"), shard)
    monkeypatch.setattr("jobs.tokens.stages.BLOCK_BYTES", 4 * 16 * 16 * 3)  # one batch at a time
    job = token_job(model, tmp_path / "parts")
    row = decode_shard(dataclasses.asdict(shard), job)
    assert row["pictures"] == ""
    assert ShardEncoder(job)(row)["errors"] == 1
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


def _footer(**changes):
    values = {
        "model_fingerprint": "m",
        "words_fingerprint": "w",
        "grids": ((1, 1), (2, 2)),
        "source_shard": "test-000000",
        "source_sha256": "s",
        "samples": 3,
        "errors": 1,
        "device": "cpu",
        "dtype": "float32",
        "batch": 8,
        "code_version": "0",
    }
    return TableFooter(**{**values, **changes})


def test_a_footer_survives_its_text_form():
    footer = _footer()
    text = {key.encode(): value.encode() for key, value in footer.to_metadata().items()}
    assert TableFooter.from_metadata(text) == footer
    del text[b"spae.grids"]
    with pytest.raises(ValueError, match=r"no spae\.grids"):
        TableFooter.from_metadata(text)


def test_rows_and_errors_must_be_the_samples(tmp_path):
    with pytest.raises(ValueError, match=r"1 rows \+ 1 errors are not 3 samples"):
        write_table(str(tmp_path / "a.parquet"), ["a"], [1], None, _footer())
    assert not (tmp_path / "a.parquet").exists()


def test_a_table_without_rows_is_a_table(tmp_path):
    write_table(str(tmp_path / "a.parquet"), [], [], None, _footer(samples=1))
    assert len(read_tokens(str(tmp_path / "a.parquet")).pyramid) == 0


def test_only_whole_tables_of_ours_count(tmp_path, split):
    (tmp_path / "test-000000.parquet").write_bytes(b"PAR1 cut")
    found = find_tables(str(tmp_path))["test-000000"]
    assert (found.footer, found.foreign) == (None, False)
    identity = {"model_fingerprint": "m"}
    shards = load_index(split).shards
    assert len(make_plan(shards, {"test-000000": found}, identity, replace=False).todo) == 3
    pq.write_table(pa.table({"a": [1]}), tmp_path / "theirs.parquet")
    found = find_tables(str(tmp_path))["theirs"]
    for replace in (False, True):
        with pytest.raises(ValueError, match="not one of ours"):
            make_plan(shards, {"theirs": found}, identity, replace=replace)


def test_a_shard_that_was_made_anew_is_a_conflict(split):
    shards = load_index(split).shards
    made = tiny_spae.model()
    footer = _footer(
        model_fingerprint=made.fingerprint,
        words_fingerprint=made.vocabulary.words_fingerprint,
        grids=made.config.grids,
        source_sha256="old",
    )
    tables = {"test-000000": FoundTable(footer, 1)}
    with pytest.raises(ValueError, match=f"source_sha256 old, and this run has {shards[0].sha256}"):
        make_plan(shards, tables, table_identity(made), replace=False)
    assert make_plan(shards, tables, table_identity(made), replace=True).todo == shards
    current = {"test-000000": FoundTable(dataclasses.replace(footer, source_sha256=shards[0].sha256, batch=1), 1)}
    assert make_plan(shards, current, table_identity(made), replace=False).done == shards[:1]


def test_tables_live_on_any_file_system(model, split, tmp_path):
    tokenize_split(model, split, tmp_path)
    tokenize_split(model, split, "memory://tables/tokens")
    stored, local = find_tables("memory://tables/tokens"), find_tables(str(tmp_path))
    assert stored == local
    name = "test-000001.parquet"
    assert read_bytes(f"memory://tables/tokens/{name}") == (tmp_path / name).read_bytes()
    publish_manifest("memory://tables/tokens", stored)
    assert b'"rows": 20' in (read_bytes("memory://tables/tokens/manifest.json") or b"")


def test_tokens_are_opened_for_their_model_and_shard_only(model, split, tmp_path):
    shard, fingerprint = load_index(split).shards[0], tiny_spae.model().fingerprint
    with pytest.raises(ValueError, match="does not exist; run"):
        open_tokens(str(tmp_path), shard, fingerprint)
    tokenize_shard(token_job(model, tmp_path), shard)
    assert len(open_tokens(str(tmp_path), shard, fingerprint).keys) == 9
    with pytest.raises(ValueError, match=f"model_fingerprint {fingerprint}, and here it is other"):
        open_tokens(str(tmp_path), shard, "other")
    with pytest.raises(ValueError, match=f"source_sha256 {shard.sha256}, and here it is other"):
        open_tokens(str(tmp_path), dataclasses.replace(shard, sha256="other"), fingerprint)
