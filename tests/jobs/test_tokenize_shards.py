import dataclasses
import json
import logging
import re
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import ray
import torch
from PIL import Image

from jobs import tokenize_shards
from jobs.cluster import connect
from jobs.tokenize_shards import TokenizeFlags
from jobs.tokens import actors
from jobs.tokens.messages import TokenizedShard
from jobs.tokens.run import tokenize
from spae.data.publishing import TEMPORARY_MARK
from spae.data.records import load_index
from spae.data.token_table import find_token_tables, read_token_table, token_schema
from spae.model import SPAE
from spae.pyramid import TokenPyramid
from tests import tiny_spae
from tests.clusters import free_port
from tests.image_layouts import img2dataset, tar_bytes, write_files
from tests.photographs import photographs
from tests.tiny_shards import CLASSES, samples, write_split
from tests.tiny_tokens import token_job, tokenize_shard

COUNTS = (9, 5, 7)
BAD = 2  # the sample of the second shard that cannot be decoded


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    shards = [samples(count, seed) for seed, count in enumerate(COUNTS)]
    shards[1][BAD] = (shards[1][BAD][0], b"broken", 1)
    shards[2][0] = (*shards[2][0][:2], None)
    return write_split(tmp_path_factory.mktemp("split"), shards)


@pytest.fixture(scope="module")
def cluster():
    connect("local", num_cpus=2)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def tables(model, split, cluster, tmp_path_factory):
    """The tables that two workers wrote."""
    output = tmp_path_factory.mktemp("tokens")
    assert _run(model, split, output, "--workers", "2", "--max-error-share", "0.2") == 0
    return output


def _run(model, split, output, *flags):
    return tokenize_shards.main(
        ["--model", str(model), "--input", str(split), "--output", str(output), "--batch", "4", *flags]
    )


def _words(folder):
    """Ids of every sample in a folder by key."""
    rows = {}
    for name in find_token_tables(str(folder)):
        tokens, _ = read_token_table(f"{folder}/{name}.parquet")
        rows |= dict(zip(tokens.keys, TokenPyramid.from_arrays(tokens.layers).flatten().tolist(), strict=True))
    return rows


def _labels(folder, name):
    return read_token_table(f"{folder}/{name}.parquet", layers=0)[0].labels


def _times(folder):
    return {path.name: path.stat().st_mtime_ns for path in Path(folder).glob("test-*.parquet")}


def test_a_process_that_is_connected_stays_so(cluster):
    job = ray.get_runtime_context().get_job_id()
    connect(f"127.0.0.1:{free_port()}")
    assert ray.get_runtime_context().get_job_id() == job
    assert ray.cluster_resources()["CPU"] == 2


def test_every_shard_has_a_table_by_the_contract(tables, model, split):
    fingerprint = tiny_spae.model().fingerprint
    for shard, count in zip(load_index(split).shards, COUNTS, strict=True):
        parquet = pq.ParquetFile(tables / f"{shard.name}.parquet")
        assert parquet.schema_arrow.remove_metadata() == token_schema([1, 4, 16, 16])
        assert parquet.metadata.row_group(0).column(3).compression == "ZSTD"
        assert "RLE_DICTIONARY" in parquet.metadata.row_group(0).column(3).encodings
        errors = int(shard.name == "test-000001")
        assert parquet.metadata.num_rows == count - errors
        footer = {key.decode(): value.decode() for key, value in parquet.metadata.metadata.items()}
        assert {key: value for key, value in footer.items() if key.startswith("spae.")} == {
            "spae.schema_version": "1",
            "spae.model_fingerprint": fingerprint,
            "spae.words_fingerprint": tiny_spae.vocabulary().words_fingerprint,
            "spae.grids": "[[1, 1], [2, 2], [4, 4], [4, 4]]",
            "spae.layers": "4",
            "spae.columns": "[]",
            "spae.text_layers": "0",
            "spae.source_shard": shard.name,
            "spae.source_sha256": shard.sha256,
            "spae.samples": str(count),
            "spae.errors": str(errors),
            "spae.device": "cpu",
            "spae.dtype": "float32",
            "spae.batch": "4",
            "spae.code_version": footer["spae.code_version"],
        }
    assert [path.name for path in tables.iterdir() if TEMPORARY_MARK in path.name] == []


def test_rows_are_the_samples_in_tar_order_with_their_labels(tables):
    rows = pq.read_table(tables / "test-000002.parquet").to_pylist()
    expected = samples(7, 2)
    assert [row["key"] for row in rows] == [key for key, _, _ in expected]
    assert [row["label"] for row in rows] == [None, *(label for _, _, label in expected[1:])]
    assert {row["clip"] for row in rows} == {None}


def test_a_sample_that_cannot_be_decoded_is_a_dead_letter(tables, split):
    (file,) = (tables / "errors").iterdir()
    (row,) = pq.read_table(file).to_pylist()
    key = samples(5, 1)[BAD][0]
    assert file.name == "test-000001.parquet"
    assert (row["key"], row["reason"], row["source"]) == (key, "no image", f"{split}/test-000001.tar")
    assert key not in _words(tables)


def test_two_workers_and_one_process_give_the_same_words(tables, model, split, tmp_path):
    for shard in reversed(load_index(split).shards):
        assert isinstance(tokenize_shard(token_job(model, tmp_path), shard), TokenizedShard)
    assert _words(tmp_path) == _words(tables)


def test_words_do_not_depend_on_the_shard_or_the_place_in_it(tables, model, tmp_path):
    everything = [sample for seed, count in enumerate(COUNTS) for sample in samples(count, seed)]
    shuffled = [everything[index] for index in torch.randperm(len(everything)).tolist()]
    other = write_split(tmp_path / "split", [shuffled[:2], shuffled[2:13], shuffled[13:]])
    for shard in load_index(other).shards:
        tokenize_shard(token_job(model, tmp_path / "tokens"), shard)
    words, expected = _words(tmp_path / "tokens"), _words(tables)
    assert {key: words[key] for key in expected} == expected


def test_sql_joins_ids_with_words(tables, model):
    rows = duckdb.sql(f"""
        select key, word from '{tables}/test-*.parquet' join '{tables}/vocabulary.parquet' as vocabulary
        on vocabulary.id = layer_1[1] order by key
    """).fetchall()
    assert rows == sorted((key, f"word{ids[0]}") for key, ids in _words(tables).items())


def test_sql_counts_words_of_each_class(tables):
    rows = duckdb.sql(f"""
        select c.name, count(*) as pictures from '{tables}/test-*.parquet' as t
        join '{tables}/vocabulary.parquet' as v on t.layer_1[1] = v.id
        join '{tables}/classes.parquet' as c using (label) group by c.name order by c.name
    """).fetchall()
    labels = [label for name in find_token_tables(str(tables)) for label in _labels(tables, name)]
    assert dict(rows) == {name: labels.count(label) for label, name in enumerate(CLASSES)}
    assert sum(pictures for _, pictures in rows) == 19, "one of the 20 has no label"


def test_the_first_layers_can_be_read_alone(tables):
    table = pyarrow.dataset.dataset(sorted(map(str, tables.glob("test-*.parquet")))).to_table(
        columns=["layer_1", "layer_2"]
    )
    assert (table.num_rows, table.schema.names) == (20, ["layer_1", "layer_2"])
    first, _ = read_token_table(str(tables / "test-000000.parquet"), layers=2)
    every, _ = read_token_table(str(tables / "test-000000.parquet"))
    assert TokenPyramid.from_arrays(first.layers).grids == ((1, 1), (2, 2))
    for one, other in zip(first.layers, every.layers, strict=False):
        assert np.array_equal(one, other)


def test_the_manifest_says_what_the_files_say(tables):
    manifest = json.loads((tables / "manifest.json").read_text())
    assert (manifest["samples"], manifest["errors"], manifest["rows"]) == (21, 1, 20)
    assert [row["url"] for row in manifest["tables"]] == [f"test-{number:06d}.parquet" for number in range(3)]
    assert manifest["bytes"] == sum(path.stat().st_size for path in tables.glob("test-*.parquet"))
    assert manifest["model_fingerprint"] == tiny_spae.model().fingerprint


def test_a_rerun_does_nothing_again(tables, model, split, caplog):
    before = _times(tables)
    caplog.set_level(logging.INFO)
    assert _run(model, split, tables, "--max-error-share", "0.2") == 0
    assert _times(tables) == before
    assert "in 0, out 0, failed 0; skipped 21" in caplog.text


def test_too_many_errors_fail_the_run_and_are_counted_from_the_files(tables, model, split, caplog):
    assert _run(model, split, tables) == 1
    assert "1 of 21 samples cannot be decoded" in caplog.text


def test_another_model_is_refused_and_replaces_if_asked(tables, split, tmp_path, caplog):
    other, output = tiny_spae.model(seed=1), tmp_path / "tokens"
    other.save_pretrained(str(tmp_path / "model"))
    output.mkdir()
    for path in tables.glob("*.parquet"):
        (output / path.name).write_bytes(path.read_bytes())
    before = _times(output)
    assert _run(tmp_path / "model", split, output) == 2
    assert other.fingerprint in caplog.text
    assert tiny_spae.model().fingerprint in caplog.text
    assert _times(output) == before
    assert _run(tmp_path / "model", split, output, "--limit", "1", "--replace") == 2, (
        "two models would stay side by side"
    )
    assert _run(tmp_path / "model", split, output, "--replace", "--max-error-share", "0.2") == 0
    assert {table.footer.model_fingerprint for table in find_token_tables(str(output)).values()} == {other.fingerprint}


def test_what_is_done_is_kept_and_a_cut_tar_is_named(model, split, cluster, tmp_path, caplog):
    source, output = tmp_path / "split", tmp_path / "tokens"
    source.mkdir()
    for path in Path(split).iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    tokenize_shard(token_job(model, output), load_index(split).shards[0])
    before = _times(output)
    tar = source / "test-000002.tar"
    tar.write_bytes(tar.read_bytes()[:4000])
    assert _run(model, source, output, "--max-error-share", "0.2") == 1
    assert re.search("test-000002 gets no table: .*unexpected end of data", caplog.text)
    assert sorted(_times(output)) == ["test-000000.parquet", "test-000001.parquet"]
    assert _times(output)["test-000000.parquet"] == before["test-000000.parquet"]


def test_large_shards_are_decoded_in_parts_by_tasks_into_the_same_tables(tables, model, split, cluster, tmp_path):
    flags = TokenizeFlags(model=model, input=(split,), output=str(tmp_path), batch=4, workers=2)
    plan, job, _ = tokenize_shards.prepare(flags, SPAE.from_pretrained(model))
    small = dataclasses.replace(job, block_bytes=4 * 16 * 16 * 3)  # a batch
    outcomes = list(tokenize(plan, small, flags.actors))
    assert sorted((outcome.shard.name, outcome.errors) for outcome in outcomes) == [
        ("test-000000", 0),
        ("test-000001", 1),
        ("test-000002", 0),
    ]
    for path in tables.glob("test-*.parquet"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_folder_of_photographs_and_others_tars_need_no_other_flag(model, cluster, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_files(tmp_path, {"tars/00000.tar": tar_bytes(img2dataset(5))})
    (tmp_path / "photos" / "holiday").mkdir(parents=True)
    for number, pixels in enumerate(photographs()):
        Image.fromarray(pixels).save(tmp_path / "photos" / "holiday" / f"{number}.jpg")
    inputs = ["--input", str(tmp_path / "photos"), str(tmp_path / "tars")]
    flags = ["--model", model, *inputs, "--output", str(tmp_path / "tokens")]
    assert tokenize_shards.main(flags) == 0
    assert "2 shards to tokenize with at least 3 samples" in caplog.text
    assert "in 8, out 8, failed 0; skipped 0 that were done; 2 shards in" in caplog.text
    assert set(_words(tmp_path / "tokens")) == {f"holiday/{n}.jpg" for n in range(3)} | {f"{n:09d}" for n in range(5)}
    assert tokenize_shards.main(flags) == 0
    assert "in 0, out 0, failed 0; skipped 8 that were done" in caplog.text


def test_bfloat16_is_told_recorded_and_not_mixed_unawares(model, split, cluster, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert _run(model, split, tmp_path, "--dtype", "bfloat16", "--limit", "1") == 0
    assert re.search(r"test-000000: \d\d\.\d{3}% of the words in bfloat16 are float32's", caplog.text)
    footer = find_token_tables(str(tmp_path))["test-000000"].footer
    assert footer.dtype == "bfloat16"
    assert 0.8 < footer.agreement < 1
    assert _run(model, split, tmp_path) == 2
    assert "test-000000.parquet was made on cpu in bfloat16, and this run is on cpu in float32" in caplog.text
    assert _run(model, split, tmp_path, "--allow-mixture", "--dry-run") == 0


def test_shards_that_all_fail_end_the_run(model, tmp_path, cluster, caplog, monkeypatch):
    monkeypatch.setattr(actors, "FAILURES_IN_A_ROW", 2)
    split = write_split(tmp_path / "split", [samples(2, seed) for seed in range(4)])
    for path in Path(split).glob("*.tar"):
        path.write_bytes(path.read_bytes()[:700])
    assert _run(model, split, tmp_path / "tokens") == 1
    assert "2 shards in a row have failed, the last by: " in caplog.text


def test_gpus_that_the_cluster_lacks_are_named_and_this_process_needs_none(model, split, cluster, tmp_path, caplog):
    assert _run(model, split, tmp_path / "tokens", "--device", "cuda") == 2
    assert re.search(r"the cluster has .*'GPU': 0, .*too little for 1 workers of 0.75 CPU, 1 GPU, ", caplog.text)
    assert not (tmp_path / "tokens").exists()
