"""Tables of as many layers as each picture needs."""

import dataclasses
import json
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tyro

from jobs import reconstruct_shards, remove_samples, tokenize_shards, verify_tokens
from jobs.reconstruct_shards import ReconstructFlags
from jobs.tokens.depth import needed_layers, psnr
from jobs.tokens.reconstruction import ShardReconstructor
from jobs.tuning.documents import PictureDocuments
from spae.data.media import decode_image
from spae.data.publishing import publish
from spae.data.records import load_index
from spae.data.tar import read_samples
from spae.data.token_sequences import stream_rows
from spae.data.token_table import (
    VOCABULARY_FILE,
    find_token_tables,
    open_token_table,
    publish_manifest,
    read_token_table,
)
from spae.evaluation.pictures import decode_in_batches, encode_in_batches, read_pictures
from spae.incontext.text_tokens import TextTokens
from spae.model import SPAE
from tests import tiny_causal
from tests.tiny_tokens import token_job, tokenize_shard

NAME = "test-000001"


@pytest.fixture(scope="module")
def spae(model):
    return SPAE.from_pretrained(model)


@pytest.fixture(scope="module")
def reached(spae, split):
    """Pictures of the shard, their words, and the PSNR (layers, n) of each number of first layers."""
    (pictures,) = read_pictures(load_index(split).shards[1], (16, 16))
    pyramid = encode_in_batches(spae, pictures.pixels, 4)
    every = [
        psnr(np.concatenate(list(decode_in_batches(spae, pyramid.prefix(layers), 4))), pictures.pixels)
        for layers in range(1, 5)
    ]
    return pictures, pyramid, np.stack(every)


@pytest.fixture(scope="module")
def error_db(reached):
    """What some pictures reach early, some late, and some never."""
    best = np.sort(reached[2].max(axis=0))
    return float(best[1] + best[2]) / 2


@pytest.fixture(scope="module")
def tables(model, split, error_db, tmp_path_factory):
    """The shard's table with depths, text of two layers and all that lies beside it."""
    folder = tmp_path_factory.mktemp("tokens")
    job = dataclasses.replace(token_job(model, folder), error_db=error_db, text_layers=2)
    tokenize_shard(job, load_index(split).shards[1])
    publish(f"{folder}/{VOCABULARY_FILE}", SPAE.from_pretrained(model).vocabulary.words_parquet())
    publish_manifest(str(folder), find_token_tables(str(folder)))
    return folder


def expected_depths(every, error_db):
    enough = every >= error_db
    return np.where(enough.any(axis=0), enough.argmax(axis=0) + 1, len(every))


def test_a_picture_needs_the_fewest_layers_that_reach_the_error(spae, reached):
    pictures, pyramid, every = reached
    for error_db in (0.1, *every.ravel(), 99.0):
        found = needed_layers(spae, pyramid, pictures.pixels, 4, error_db)
        assert found.tolist() == expected_depths(every, error_db).tolist()


def test_psnr_is_that_of_the_definition():
    black, pictures = np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3), np.uint8)
    pictures[0] = 51
    assert psnr(black, pictures).tolist() == [pytest.approx(20 * np.log10(5)), np.inf]


def test_layers_beyond_the_depth_are_null_and_the_others_those_of_a_full_table(tables, model, split, tmp_path, reached):
    tokenize_shard(token_job(model, tmp_path), load_index(split).shards[1])
    full, found = pq.read_table(tmp_path / f"{NAME}.parquet"), pq.read_table(tables / f"{NAME}.parquet")
    error_db = json.loads(found.schema.metadata[b"spae.error_db"])
    depths = expected_depths(reached[2], error_db)
    assert found["depth"].to_pylist() == depths.tolist()
    assert len(set(depths)) > 1, "the pictures do not differ"
    assert found.schema.field("depth").type == pa.int32()
    for number in range(1, 5):
        name = f"layer_{number}"
        assert found.schema.field(name).nullable
        assert found[name].to_pylist() == [
            ids if depth >= number else None for ids, depth in zip(full[name].to_pylist(), depths, strict=True)
        ]
    assert [len(text.split()) for text in found["text"].to_pylist()] == [1 if depth == 1 else 5 for depth in depths]


def test_parts_of_a_large_shard_give_the_same_table(tables, model, split, error_db, tmp_path):
    job = dataclasses.replace(token_job(model, tmp_path), error_db=error_db, text_layers=2, block_bytes=4 * 16 * 16 * 3)
    tokenize_shard(job, load_index(split).shards[1])
    assert (tmp_path / f"{NAME}.parquet").read_bytes() == (tables / f"{NAME}.parquet").read_bytes()


def test_readers_take_the_layers_that_all_rows_have_and_name_the_others(tables, split, spae):
    shard = load_index(split).shards[1]
    least = min(pq.read_table(f"{tables}/{NAME}.parquet")["depth"].to_pylist())
    assert len(open_token_table(str(tables), shard, spae.fingerprint, least).layers) == least
    for layers in (least + 1, None):
        with pytest.raises(ValueError, match=rf"has pictures of fewer than {layers or 4} layers; take {least} of them"):
            open_token_table(str(tables), shard, spae.fingerprint, layers)


def test_a_table_is_read_with_its_depths_and_zeros_beyond(tables, reached, error_db):
    rows, _ = read_token_table(f"{tables}/{NAME}.parquet")
    (streamed,) = stream_rows(f"{tables}/{NAME}.parquet", 4)
    assert rows.depth.tolist() == streamed.depth.tolist() == expected_depths(reached[2], error_db).tolist()
    for number, (ids, full) in enumerate(zip(rows.layers, reached[1].to_arrays(), strict=True), 1):
        assert np.array_equal(ids[rows.depth >= number], full[rows.depth >= number])
        assert not ids[rows.depth < number].any()
        assert np.array_equal(ids, streamed.layers[number - 1])


def test_a_document_holds_the_words_that_its_picture_uses(tables):
    words, tokens = [f"word{number}" for number in range(40)], TextTokens(tiny_causal.tokenizer())
    made = PictureDocuments("words", words, dict(enumerate("abc")), "", tokens)
    rows, _ = read_token_table(f"{tables}/{NAME}.parquet")
    found = [tokens.text(document.ids[document.learned]).count("word") for document in made.documents([rows])]
    assert found == [[1, 5, 21, 37][depth - 1] for depth in rows.depth]


@pytest.mark.parametrize("layers", [4, 2])
def test_pictures_are_rebuilt_by_the_layers_that_they_use(tables, model, spae, reached, error_db, tmp_path, layers):
    flags = ["--model", model, "--tokens", str(tables), "--output", str(tmp_path), "--layers", str(layers)]
    flags += ["--split", "rebuilt", "--batch", "2"]
    splits, job = reconstruct_shards.prepare(tyro.cli(ReconstructFlags, args=flags), spae)
    (planned,) = splits[0].shards
    assert not ShardReconstructor(job).reconstruct(planned).reason
    rebuilt = np.stack([decode_image(sample.media) for sample in read_samples(planned.url)])
    depths = np.minimum(expected_depths(reached[2], error_db), layers)
    expected = reached[2][depths - 1, np.arange(len(depths))]
    assert psnr(rebuilt, reached[0].pixels).tolist() == pytest.approx(expected.tolist())


def test_the_error_is_part_of_what_is_done(tables, model, split, error_db, caplog):
    caplog.set_level(logging.INFO)
    flags = [
        "--model",
        model,
        "--input",
        split,
        "--output",
        str(tables),
        "--shards",
        "1..1",
        "--words",
        "2",
        "--dry-run",
    ]
    assert tokenize_shards.main([*flags, "--error", repr(error_db)]) == 0
    assert "1 are done" in caplog.text
    assert tokenize_shards.main([*flags, "--error", "3"]) == 2
    assert f"has error_db {error_db}, and this run has 3.0" in caplog.text


def test_such_tables_are_verified_also_after_a_removal(tables, model, tmp_path, caplog):
    assert verify_tokens.main([str(tables), "--model", model]) == 0
    (tmp_path / "keys.txt").write_text(pq.read_table(tables / f"{NAME}.parquet")["key"][0].as_py())
    for path in tables.rglob("*.*"):
        (tmp_path / path.relative_to(tables)).parent.mkdir(exist_ok=True)
        (tmp_path / path.relative_to(tables)).write_bytes(path.read_bytes())
    assert remove_samples.main([str(tmp_path), "--remove", f"{tmp_path}/keys.txt"]) == 0
    assert verify_tokens.main([str(tmp_path), "--model", model]) == 0
    path = tmp_path / f"{NAME}.parquet"
    table = pq.read_table(path)
    depths = pa.array([*(depth % 4 + 1 for depth in table["depth"].to_pylist()[:-1]), 9], pa.int32())
    wrong = table.set_column(table.schema.get_field_index("depth"), table.schema.field("depth"), depths)
    pq.write_table(wrong, path)
    assert verify_tokens.main([str(tmp_path)]) == 1
    assert "has a depth that is not 1 to 4 in 1 rows" in caplog.text
    assert "has a depth that layer_" in caplog.text


@pytest.mark.parametrize("flags", [["--error", "0"], ["--error", "nan"], ["--error", "20", "--ids", "llm"]])
def test_impossible_errors_end_with_2(model, split, tmp_path, flags):
    with pytest.raises(SystemExit, match="2"):
        tokenize_shards.main(["--model", model, "--input", split, "--output", str(tmp_path), *flags])
