import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spae.data.media import MediaError
from spae.data.sources import SourceSettings, parquet_rows, spool
from tests.image_layouts import jpegs

LIMIT = 1 << 24
PICTURES = jpegs(12)
NAMES = ["cat", "dog", "fox"]


def source(url, **settings):
    return SourceSettings(name="parquet", url=str(url), split="train", **settings).open()


def hub_table(first=0, count=12, named=True, **columns):
    """As dataset hubs publish images: structs of bytes and path, labels named in the footer."""
    images = [{"bytes": PICTURES[i], "path": f"n{i}.jpg"} for i in range(first, first + count)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    labels = [i % 3 for i in range(first, first + count)]
    table = pa.table({"image": pa.array(images, kind), "label": pa.array(labels, pa.int64()), **columns})
    features = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return table.replace_schema_metadata(metadata) if named else table


@pytest.fixture
def hub(tmp_path):
    for part in range(2):
        path = tmp_path / "data" / f"train-{part:05d}-of-00002.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(hub_table(6 * part, 6), path, row_group_size=4)
    return tmp_path / "data"


def test_rows_of_a_hubs_files_are_samples(hub):
    found = source(hub)
    assert [row.name for row in found.classes()] == NAMES
    entries = list(found.entries())
    assert [(entry.key, entry.label, entry.problem) for entry in entries] == [(f"n{i}", i % 3, "") for i in range(12)]
    assert [found.read(entry, LIMIT) for entry in reversed(entries)] == list(reversed(PICTURES))
    assert entries[7].path == "train-00001-of-00002.parquet#1"
    assert found.read(entries[7], 5) == PICTURES[7][:5]


def test_sizes_are_about_those_of_the_images(hub):
    sizes = {entry.path.partition("#")[0]: entry.size for entry in source(hub).entries()}
    for size, first in zip(sizes.values(), (0, 6), strict=True):
        mean = sum(map(len, PICTURES[first : first + 6])) / 6
        assert mean <= size < 2 * mean, "pages of few images tell the least and the greatest of them too"


def test_a_file_whose_name_is_not_utf8_is_one_problem(hub):
    (hub / "train-00001-of-00002.parquet").rename(hub / os.fsdecode(b"\xff.parquet"))
    *sound, lost = source(hub, broken_containers="skip").entries()
    assert [entry.problem for entry in sound] == [""] * 6
    assert (lost.path, lost.problem) == ("\ufffd.parquet", "name is not UTF-8")


def test_one_split_of_a_folder_must_be_chosen(hub):
    pq.write_table(hub_table(), hub / "validation-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=r"splits train, validation; name one: .*train-\*.parquet"):
        source(hub).classes()
    assert len(list(source(hub / "train-*.parquet").entries())) == 12


def test_plain_bytes_names_as_labels_and_captions(tmp_path):
    labels = ["b", "a", None, "b"]
    table = pa.table({"png": list(PICTURES[:4]), "class_name": labels, "caption": ["x", None, "y", "z" * 20_000]})
    pq.write_table(table, tmp_path / "a.parquet")
    found = source(tmp_path / "a.parquet")
    assert [row.name for row in found.classes()] == ["a", "b"]
    assert [(e.key, e.label, e.text, e.problem) for e in found.entries()] == [
        ("a-0000000", 1, "x", ""),
        ("a-0000001", 0, "", ""),
        ("a-0000002", None, "y", "no label"),
        ("a-0000003", 1, "", "a text of over 16384 bytes"),
    ]


def test_numbers_of_a_column_with_gaps_are_labels(tmp_path):
    labels = [10.0, None, 2.0, float("nan"), -1.0]
    pq.write_table(pa.table({"png": list(PICTURES[:5]), "label": labels}), tmp_path / "a.parquet")
    assert [entry.label for entry in source(tmp_path).entries()] == [10, None, 2, None, None]


def test_columns_can_be_named(tmp_path):
    table = pa.table({"pixels": list(PICTURES[:3]), "kind": [2, 0, -1], "said": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "a.parquet")
    columns = {"image_column": "pixels", "label_column": "kind", "text_column": "said"}
    found = source(tmp_path, **columns)
    assert [row.label for row in found.classes()] == [0, 2]
    entries = list(found.entries())
    assert [(e.label, e.text, e.problem) for e in entries] == [(2, "a", ""), (0, "b", ""), (None, "c", "no label")]
    assert [found.read(entry, LIMIT) for entry in entries] == list(PICTURES[:3])
    with pytest.raises(ValueError, match="no column of image bytes"):
        source(tmp_path).classes()
    with pytest.raises(ValueError, match=r"^--label-column what is none of the columns pixels"):
        source(tmp_path, **{**columns, "label_column": "what"}).classes()
    with pytest.raises(ValueError, match="kind is int64"):
        source(tmp_path, image_column="kind").classes()


def test_files_without_labels_are_a_source_without_labels(tmp_path):
    pq.write_table(pa.table({"image": list(PICTURES)}), tmp_path / "a.parquet")
    found = source(tmp_path)
    assert found.classes() == ()
    assert [(entry.label, entry.problem) for entry in found.entries()] == [(None, "")] * 12


def test_a_broken_file_costs_one_entry_and_lost_bytes_one_each(hub):
    whole = (hub / "train-00001-of-00002.parquet").read_bytes()
    (hub / "train-00001-of-00002.parquet").write_bytes(whole[: len(whole) // 2])
    problems = [entry.problem for entry in source(hub, broken_containers="skip").entries()]
    assert problems == [*[""] * 6, "broken Parquet file"]
    with pytest.raises(ValueError, match=r"1 containers cannot be read whole: train-00001-of-00002.parquet .broken"):
        list(source(hub).entries())
    with pytest.raises(ValueError, match=r"none of the 1 files .* is a whole Parquet file"):
        source(hub / "train-00001*").classes()
    table = pa.table({"image": pa.array([{"bytes": None, "path": "x"}, {"bytes": b"y", "path": None}])})
    pq.write_table(table, hub / "train-00001-of-00002.parquet")
    found = source(hub / "train-00001*")
    first, second = found.entries()
    with pytest.raises(MediaError, match="no image bytes"):
        found.read(first, LIMIT)
    assert found.read(second, LIMIT) == b"y"


def test_row_groups_are_unpacked_once_and_kept_within_bounds(tmp_path, monkeypatch):
    pq.write_table(hub_table(), tmp_path / "a.parquet", row_group_size=2)
    found = source(tmp_path)
    entries = list(found.entries())
    unpacked = []
    whole = parquet_rows._unpacked
    monkeypatch.setattr(parquet_rows, "_spool", spool.Spool())
    monkeypatch.setattr(parquet_rows, "_unpacked", lambda *group: unpacked.append(group[-1]) or whole(*group))
    for entry in [*entries, *entries]:
        assert found.read(entry, LIMIT) == PICTURES[entry.offset]
    assert unpacked == list(range(6))
    folder = Path(parquet_rows._spool.folder.path)
    assert len(list(folder.iterdir())) == 6
    monkeypatch.setattr(spool, "SPOOL_BYTES", 10_000)
    pq.write_table(hub_table(), tmp_path / "b.parquet", row_group_size=2)
    for entry in source(tmp_path / "b.parquet").entries():
        assert found.read(entry, LIMIT) == PICTURES[entry.offset]
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 10_000
    monkeypatch.setattr(spool, "SPOOL_BYTES", 10)
    with pytest.raises(MediaError, match="too large to unpack"):
        found.read(entries[0], LIMIT)


def test_an_unpacked_folder_goes_with_its_owner(tmp_path):
    kept = spool.Spool()
    assert kept.read("a", 1, lambda: [b"x", b"words"], 3) == b"wor"
    assert kept.read("a", 0, list, 3) == b"x"
    with pytest.raises(MediaError, match="row 2 of 2"):
        kept.read("a", 2, list, 3)
    folder = Path(kept.folder.path)
    assert folder.is_dir()
    del kept
    assert not folder.exists()


def test_a_broken_first_file_names_no_classes_and_the_next_does(hub):
    first = hub / "train-00000-of-00002.parquet"
    first.write_bytes(first.read_bytes()[:300])
    found = source(hub, broken_containers="skip")
    assert [row.name for row in found.classes()] == NAMES
    assert [entry.problem for entry in found.entries()] == ["broken Parquet file", *[""] * 6]


def test_columns_that_are_left_out_are_named(tmp_path, caplog):
    caplog.set_level("INFO")
    pq.write_table(hub_table(size=[1] * 12, url=["x"] * 12), tmp_path / "a.parquet")
    list(source(tmp_path).entries())
    assert "left out are the columns size, url" in caplog.text
