import dataclasses
import json
import logging
import re
import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs import verify_tokens
from spae.data.publishing import publish
from spae.data.records import load_index
from spae.data.token_table import find_token_tables, publish_manifest
from spae.model import SPAE
from tests import tiny_spae
from tests.tiny_shards import samples, write_split
from tests.tiny_tokens import token_job, tokenize_shard

TABLE = "test-000001.parquet"


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    shards = [samples(count, seed) for seed, count in enumerate((9, 5))]
    shards[1][2] = (shards[1][2][0], b"broken", 1)
    return write_split(tmp_path_factory.mktemp("split"), shards)


@pytest.fixture(scope="module")
def sound(model, split, tmp_path_factory):
    """Tables of two shards, of which one sample is a dead letter, with all that lies beside them."""
    folder = tmp_path_factory.mktemp("tokens")
    job = dataclasses.replace(token_job(model, folder, layers=3), text_layers=2, llm_ids=True)
    for shard in load_index(split).shards:
        tokenize_shard(job, shard)
    publish(f"{folder}/vocabulary.parquet", SPAE.from_pretrained(model).vocabulary.words_parquet())
    publish_manifest(str(folder), find_token_tables(str(folder)))
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "tokens")


def check(folder, *flags):
    return verify_tokens.main([str(folder), *map(str, flags)])


def dead_letters(folder):
    (file,) = (folder / "errors").glob("test-000001.*")
    return file


def rewrite(path, change, **keys):
    """Put another table there, whose footer says other things."""
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, **{f"spae.{key}".encode(): value.encode() for key, value in keys.items()}}
    pq.write_table(change(table).replace_schema_metadata(metadata), path)


def with_column(name, values):
    def change(table):
        field = table.schema.field(name)
        return table.set_column(table.schema.get_field_index(name), field, pa.array(values(table[name]), field.type))

    return change


def test_sound_tables_pass(sound, model, split, caplog):
    caplog.set_level(logging.INFO)
    assert check(sound, "--model", model, "--input", split) == 0
    assert "2 tables, 13 rows, 1 errors; 0 deviations" in caplog.text


DAMAGES = {
    "is no whole Parquet file": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    r"holds 3 rows, not 4 by its footer": lambda path: rewrite(path, lambda table: table.slice(1)),
    r"ids in layer_2 that are not 0 to 39 in 4 rows": lambda path: rewrite(
        path, with_column("layer_2", lambda ids: [[40, 0, 0, -1]] * len(ids))
    ),
    r"has 3 rows whose key, clip stood before: same, same, same": lambda path: rewrite(
        path, with_column("key", lambda keys: ["same"] * len(keys))
    ),
    r"has other llm_ids than those of its words in 4 rows": lambda path: rewrite(
        path, with_column("llm_ids", lambda ids: [[1] * 21] * len(ids))
    ),
    r"has another text than its words in 1 rows": lambda path: rewrite(
        path, with_column("text", lambda texts: ["other", *texts.to_pylist()[1:]])
    ),
    r"has the columns key, label, clip, layer_1, layer_2, layer_3, text, and its footer says": lambda path: rewrite(
        path, lambda table: table.drop_columns("llm_ids")
    ),
    r"has the column .*label: int64.*, not .*label: int32": lambda path: rewrite(
        path, lambda table: table.set_column(1, "label", pc.cast(table["label"], pa.int64()))
    ),
    r"is the table of elsewhere, by its footer": lambda path: rewrite(
        path, lambda table: table, source_shard="elsewhere"
    ),
    r"test-000001.parquet has model_fingerprint other, and test-000000.parquet has": lambda path: rewrite(
        path, lambda table: table, model_fingerprint="other"
    ),
    r"errors has 0 dead letters of it": lambda path: dead_letters(path.parent).unlink(),
    r"test-000009.jsonl is of no table": lambda path: (path.parent / "errors/test-000009.jsonl").touch(),
    r"vocabulary.parquet does not exist": lambda path: (path.parent / "vocabulary.parquet").unlink(),
    r"vocabulary.parquet is no vocabulary": lambda path: (path.parent / "vocabulary.parquet").write_bytes(b"PAR1"),
    r"manifest.json does not exist": lambda path: (path.parent / "manifest.json").unlink(),
    r"manifest.json is no manifest": lambda path: (path.parent / "manifest.json").write_text("{}"),
    r"manifest.json says of test-000001.parquet: 4, 1, \d+, and the folder: none": lambda path: path.unlink(),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_deviation_is_named(folder, caplog, message):
    DAMAGES[message](folder / TABLE)
    assert check(folder) == 1
    assert re.search(message, caplog.text)


@pytest.mark.parametrize(("rows", "status"), [(1, 0), (2, 1)])
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_dead_letters_are_counted_in_either_form(folder, form, rows, status):
    dead_letters(folder).unlink()
    file = folder / f"errors/test-000001.{form}"
    letters = [{"key": "a", "source": "b", "reason": "c", "detail": "d"}] * rows
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(letters), file)
    else:
        file.write_text("".join(json.dumps(letter) + "\n" for letter in letters))
    assert check(folder) == status


def test_another_vocabulary_beside_the_tables_is_noticed(folder, model, caplog):
    publish(f"{folder}/vocabulary.parquet", tiny_spae.vocabulary(words=41).words_parquet())
    assert check(folder) == 0, "without a model nothing tells of it"
    assert check(folder, "--model", model) == 1
    assert "vocabulary.parquet is not what the model's vocabulary gives" in caplog.text


def test_tables_of_another_model_and_of_other_shards_are_named(folder, split, tmp_path, caplog):
    tiny_spae.model(seed=1).save_pretrained(str(tmp_path / "model"))
    other = write_split(tmp_path / "split", [samples(9), samples(5, 7), samples(1)])
    assert check(folder, "--model", tmp_path / "model", "--input", other) == 1
    assert "test-000001.parquet has model_fingerprint" in caplog.text
    assert re.search(r"test-000001.parquet has source_sha256 .*, and .*test-000001.tar has", caplog.text)
    assert "test-000002.tar has no table" in caplog.text
    assert "test-000000.parquet has source_sha256" not in caplog.text


def test_a_folder_without_tables_is_unusable(tmp_path, caplog):
    assert check(tmp_path) == 2
    assert "holds no token tables" in caplog.text
