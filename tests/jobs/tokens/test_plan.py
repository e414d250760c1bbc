"""What a run has to do, and tables as the workers write them, without Ray."""

import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.tokens.plan import footer_identity, make_plan, require_same_corpus, warn_of_mixture
from spae.data.publishing import read_bytes
from spae.data.records import load_index
from spae.data.token_table import (
    FoundTokenTable,
    TokenTableFooter,
    find_token_tables,
    open_token_table,
    publish_manifest,
)
from tests import tiny_spae
from tests.tiny_shards import samples, write_split
from tests.tiny_tokens import token_footer, token_job, tokenize_shard, tokenize_split


def test_only_whole_tables_of_ours_count(tmp_path, split):
    (tmp_path / "test-000000.parquet").write_bytes(b"PAR1 cut")
    found = find_token_tables(str(tmp_path))["test-000000"]
    assert (found.footer, found.foreign) == (None, False)
    identity = {"model_fingerprint": "m"}
    shards = load_index(split).shards
    assert len(make_plan(shards, {"test-000000": found}, identity, replace=False).todo) == 3
    pq.write_table(pa.table({"a": [1]}), tmp_path / "theirs.parquet")
    found = find_token_tables(str(tmp_path))["theirs"]
    for replace in (False, True):
        with pytest.raises(ValueError, match="not one of ours"):
            make_plan(shards, {"theirs": found}, identity, replace=replace)


def test_a_shard_that_was_made_anew_is_a_conflict(split):
    shards = load_index(split).shards
    made = tiny_spae.model()
    footer = token_footer(**footer_identity(made), source_sha256="old")
    tables = {"test-000000": FoundTokenTable(footer, 1)}
    with pytest.raises(ValueError, match=f"source_sha256 old, and this run has {shards[0].sha256}"):
        make_plan(shards, tables, footer_identity(made), replace=False)
    assert make_plan(shards, tables, footer_identity(made), replace=True).todo == shards
    current = {"test-000000": FoundTokenTable(dataclasses.replace(footer, source_sha256=shards[0].sha256, batch=1), 1)}
    assert make_plan(shards, current, footer_identity(made), replace=False).done == shards[:1]


def test_tables_of_other_layers_are_a_conflict_and_old_ones_hold_all(split):
    shards, made = load_index(split).shards[:1], tiny_spae.model()
    footer = token_footer(**footer_identity(made), source_sha256=shards[0].sha256)
    metadata = {key.encode(): value.encode() for key, value in footer.to_metadata().items()}
    for key in (b"spae.layers", b"spae.columns", b"spae.text_layers"):
        del metadata[key]
    assert TokenTableFooter.from_metadata(metadata) == footer
    tables = {"test-000000": FoundTokenTable(footer, 1)}
    assert make_plan(shards, tables, footer_identity(made, made.depth), replace=False).done == shards
    with pytest.raises(ValueError, match="has layers 4, and this run has 2"):
        make_plan(shards, tables, footer_identity(made, 2), replace=False)
    with pytest.raises(ValueError, match="has columns "):
        make_plan(shards, tables, footer_identity(made, None, ("text",), 1), replace=False)


def test_tables_live_on_any_file_system(model, split, tmp_path):
    tokenize_split(model, split, tmp_path)
    tokenize_split(model, split, "memory://tables/tokens")
    stored, local = find_token_tables("memory://tables/tokens"), find_token_tables(str(tmp_path))
    assert stored == local
    name = "test-000001.parquet"
    assert read_bytes(f"memory://tables/tokens/{name}") == (tmp_path / name).read_bytes()
    publish_manifest("memory://tables/tokens", stored)
    assert b'"rows": 20' in (read_bytes("memory://tables/tokens/manifest.json") or b"")


def test_tokens_are_opened_for_their_model_and_shard_only(model, split, tmp_path):
    shard, fingerprint = load_index(split).shards[0], tiny_spae.model().fingerprint
    with pytest.raises(ValueError, match="does not exist; run"):
        open_token_table(str(tmp_path), shard, fingerprint)
    tokenize_shard(token_job(model, tmp_path), shard)
    assert len(open_token_table(str(tmp_path), shard, fingerprint).keys) == 9
    with pytest.raises(ValueError, match=f"model_fingerprint {fingerprint}, and here it is other"):
        open_token_table(str(tmp_path), shard, "other")
    with pytest.raises(ValueError, match=f"source_sha256 {shard.sha256}, and here it is other"):
        open_token_table(str(tmp_path), dataclasses.replace(shard, sha256="other"), fingerprint)


def test_replace_spares_the_tables_of_another_corpus_of_the_same_names(model, split, tmp_path):
    other = write_split(tmp_path / "other", [samples(3, seed) for seed in (7, 8)])
    tokenize_split(model, other, tmp_path / "tokens")
    tables, shards = find_token_tables(str(tmp_path / "tokens")), load_index(split).shards
    with pytest.raises(ValueError, match=r"shares no key with .*test-000000\.tar \(it has sample-7-0000"):
        require_same_corpus(shards, tables, str(tmp_path / "tokens"))
    require_same_corpus(load_index(other).shards, tables, str(tmp_path / "tokens"))


def test_replace_takes_the_tables_of_shards_that_were_rebuilt(model, split, tmp_path):
    """Another size of pictures, or an image that came to be decodable: other bytes of the same samples."""
    older = [samples(count, seed) for seed, count in enumerate((9, 5, 7))]
    rebuilt = [[(key, media + b"trailing", label) for key, media, label in shard] for shard in older]
    tokenize_split(model, write_split(tmp_path / "older", rebuilt), tmp_path / "tokens")
    output = str(tmp_path / "tokens")
    tables, shards = find_token_tables(output), load_index(split).shards
    require_same_corpus(shards, tables, output)
    assert {table.footer.source_sha256 for table in tables.values()}.isdisjoint(shard.sha256 for shard in shards)
    assert make_plan(shards, tables, footer_identity(tiny_spae.model()), replace=True).todo == shards


def test_one_shard_that_did_not_change_proves_the_corpus(model, split, tmp_path):
    kept, other = samples(9, 0), samples(3, 8)
    tokenize_split(model, write_split(tmp_path / "older", [kept, other]), tmp_path / "tokens")
    output = str(tmp_path / "tokens")
    tables, shards = find_token_tables(output), load_index(split).shards
    require_same_corpus(shards, tables, output)
    same = [shard.name for shard in shards if shard.name in tables and tables[shard.name].footer]
    assert any(tables[name].footer.source_sha256 == shards[0].sha256 for name in same)


@pytest.mark.parametrize(("device", "batch", "warned"), [("cpu", 4, False), ("cpu", 8, True), ("cuda", 4, True)])
def test_a_run_under_other_conditions_than_the_tables_is_told(model, split, tmp_path, caplog, device, batch, warned):
    tokenize_split(model, split, tmp_path)
    tables = find_token_tables(str(tmp_path))
    warn_of_mixture(tables, device, batch)
    assert ("different (device, batch)" in caplog.text) == warned
    caplog.clear()
    warn_of_mixture(tables)
    assert caplog.text == ""
