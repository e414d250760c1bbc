"""Fields of samples as columns of token tables."""

import dataclasses
import hashlib
import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import tokenize_shards
from jobs.tokens.carried import CarriedField, carried_fields
from jobs.tokens.messages import TokenizedShard
from spae.data.records import ShardInfo
from spae.data.sources import IMAGE_PATTERNS, find_shards
from spae.data.sources.base import Entry
from tests.image_layouts import img2dataset, jpegs, tar_bytes, write_files
from tests.tiny_tokens import token_job, tokenize_shard

FIELDS = ("txt", "json:caption", "json:exif.maker", "json:width", "json:key")


def tokenized(model, output, shard, fields=FIELDS):
    """The table of a shard as rows, its footer's columns, and its schema."""
    job = dataclasses.replace(token_job(model, output), carry=carried_fields(fields))
    assert isinstance(tokenize_shard(job, shard), TokenizedShard)
    table = pq.read_table(output / f"{shard.name}.parquet")
    return table.to_pylist(), json.loads(table.schema.metadata[b"spae.columns"]), table.schema


def members(number, picture, **fields):
    """What a tar holds of a sample."""
    yield f"{number:03d}.jpg", picture
    for suffix, data in fields.items():
        yield f"{number:03d}.{suffix}", data


def write_tar(folder):
    """Samples with all fields, broken ones, and one that cannot be decoded between them."""
    fields = {"caption": "Zwei Löwen\nruhen", "exif": {"maker": "Leica"}, "width": 64, "key": "k"}
    pictures = [*jpegs(5), b"broken"]
    parts = [
        members(0, pictures[0], json=json.dumps(fields).encode(), txt=b" a text "),
        members(1, pictures[5], json=json.dumps({"caption": "of no picture"}).encode()),
        members(2, pictures[1], json=b"{", txt=b""),
        members(3, pictures[2]),
        members(4, pictures[3], json=b'{"caption": null, "exif": "none", "width": [1, 2]}'),
        members(5, pictures[4], json=b'{"caption": "\\ud800", "exif": ' + b"[" * 9_000 + b"]" * 7_000),
    ]
    return write_files(folder, {"a.tar": tar_bytes(member for part in parts for member in part)})


EXPECTED = [
    ("a text", "Zwei Löwen\nruhen", "Leica", "64", "k"),
    (None, None, None, None, None),
    (None, None, None, None, None),
    (None, None, None, "[1, 2]", None),
    (None, None, None, None, None),
]


@pytest.mark.parametrize("ours", [False, True])
def test_fields_become_columns_of_strings(model, tmp_path, ours):
    write_tar(tmp_path / "tars")
    (shard,) = find_shards([str(tmp_path / "tars")], 10, IMAGE_PATTERNS)
    if ours:
        path = tmp_path / "tars/a.tar"
        shard = ShardInfo(str(path), 6, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    rows, columns, schema = tokenized(model, tmp_path / "tokens", shard)
    assert columns == ["txt", "caption", "exif_maker", "width", "json_key"]
    assert [tuple(row[name] for name in columns) for row in rows] == EXPECTED
    assert {schema.field(name).type for name in columns} == {pa.string()}
    assert all(schema.field(name).nullable for name in columns)


def test_what_img2dataset_wrote_is_carried(model, tmp_path):
    write_files(tmp_path / "tars", {"00000.tar": tar_bytes(img2dataset(4))})
    (shard,) = find_shards([str(tmp_path / "tars")], 10, IMAGE_PATTERNS)
    rows, _, _ = tokenized(model, tmp_path / "tokens", shard, ("json:status", "txt"))
    assert [(row["key"], row["status"], row["txt"]) for row in rows] == [
        (f"{number:09d}", "success", f"picture {number}") for number in range(4)
    ]


def test_captions_of_a_list_are_its_texts_and_folders_have_none(model, tmp_path):
    write_files(tmp_path, {f"pictures/{number}.jpg": data for number, data in enumerate(jpegs(2))})
    (tmp_path / "list.csv").write_text("path,label,caption\npictures/0.jpg,a,first\npictures/1.jpg,b,\n")
    for place, expected in (("list.csv", ["first", None]), ("pictures", [None, None])):
        (shard,) = find_shards([str(tmp_path / place)], 10, IMAGE_PATTERNS)
        rows, _, _ = tokenized(model, tmp_path / "tokens", shard, ("txt",))
        assert [row["txt"] for row in rows] == expected


def test_what_is_carried_is_part_of_what_is_done(model, tmp_path, caplog):
    write_tar(tmp_path / "tars")
    (shard,) = find_shards([str(tmp_path / "tars")], 10, IMAGE_PATTERNS)
    tokenized(model, tmp_path / "tokens", shard, ("txt", "json:a.b"))
    flags = ["--model", model, "--input", f"{tmp_path}/tars", "--output", f"{tmp_path}/tokens", "--dry-run"]
    caplog.set_level(logging.INFO)
    assert tokenize_shards.main([*flags, "--carry", "txt", "json:a.b"]) == 0
    assert "1 are done" in caplog.text
    assert tokenize_shards.main([*flags, "--carry", "txt"]) == 2
    assert "has columns ('txt', 'a_b'), and this run has ('txt',)" in caplog.text
    with pytest.raises(SystemExit, match="2"):
        tokenize_shards.main([*flags, "--carry", "cls"])


def test_a_json_without_bounds_is_left_out():
    entry = Entry("a", "a", original='{"caption": "x"}')
    assert CarriedField.parse("json:caption").value(entry) == "x"
    deep = dataclasses.replace(entry, original='{"a": ' * 100_000)
    assert CarriedField.parse("json:a").value(deep) is None


@pytest.mark.parametrize("text", ["", "json", "json:", "json:a.", "json:.a", "json:a..b", "cls", "xml:a", "txt:a"])
def test_what_names_no_field_is_refused(text):
    with pytest.raises(ValueError, match="names no field; give txt, json:NAME"):
        carried_fields([text])


def test_two_fields_of_one_column_are_refused():
    with pytest.raises(ValueError, match="gives two columns a_b"):
        carried_fields(["json:a.b", "json:a_b"])


@pytest.mark.parametrize("name", ["key", "label", "clip", "layer_12", "text", "llm_ids", "depth", "view", "crop"])
def test_no_field_takes_the_name_of_a_tables_own_column(name):
    assert CarriedField.parse(f"json:{name}").column == f"json_{name}"
