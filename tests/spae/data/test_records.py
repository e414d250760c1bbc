import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spae.data.publishing import absolute, join, publish
from spae.data.records import (
    ClassName,
    ShardInfo,
    Sidecar,
    check_key,
    find_split,
    load_class_names,
    load_classes,
    load_index,
    safe_key,
    save_classes,
    save_index,
    shard_name,
    shard_number,
)

SHARDS = [ShardInfo(f"train-{index:06d}.tar", 10 + index, 10240, f"{index:064x}", index) for index in range(3)]


@pytest.mark.parametrize("key", ["digit-0001", "n01440764_10026", "-abc_DEF", "x" * 90])
def test_keys_that_every_reader_takes(key):
    assert check_key(key) == key
    assert safe_key(key) == key


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "_a", "ä", "a b", "x" * 91, "a\n"])
def test_other_keys_are_named(key):
    with pytest.raises(ValueError, match="ASCII letters"):
        check_key(key)


@given(st.text(st.characters(exclude_categories=[])))
@example("\udd00")
def test_any_text_has_a_safe_key(text):
    assert check_key(safe_key(text)) == safe_key(text)


@given(st.text(), st.text())
def test_safe_keys_keep_texts_apart(one, other):
    assert (safe_key(one) == safe_key(other)) == (one == other)


def test_shard_names_and_numbers_agree():
    assert shard_name("train", 12) == "train-000012"
    assert shard_number("train", "train-1000000") == 1_000_000
    for name in ("train-12", "val-000012", "train-000012.tar", "xtrain-000012"):
        assert shard_number("train", name) is None


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_index_round_trip(scheme, tmp_path):
    folder = f"{scheme}{tmp_path}/train"
    save_index(folder, "train", SHARDS)
    index = load_index(folder)
    assert (index.name, index.samples) == ("train", 33)
    assert [shard.url for shard in index.shards] == [join(folder, shard.url) for shard in SHARDS]
    assert [shard.name for shard in index.shards] == ["train-000000", "train-000001", "train-000002"]
    assert [(s.samples, s.bytes, s.sha256, s.errors) for s in index.shards] == [
        (s.samples, s.bytes, s.sha256, s.errors) for s in SHARDS
    ]
    assert load_index(join(folder, "index.json")) == index


def test_the_three_forms_of_the_index_agree(tmp_path):
    save_index(str(tmp_path), "train", SHARDS)
    values = json.loads((tmp_path / "index.json").read_text())
    assert (values["__kind__"], values["wids_version"]) == ("wids-shard-index-v1", 1)
    assert pq.read_table(tmp_path / "index.parquet").to_pylist() == values["shardlist"]
    sizes = json.loads((tmp_path / "sizes.json").read_text())
    assert sizes == {row["url"]: row["nsamples"] for row in values["shardlist"]}


def test_index_holds_in_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_index("shards/train", "train", SHARDS)
    assert load_index("shards/train").shards[0].url == f"{tmp_path}/shards/train/train-000000.tar"


def test_missing_or_foreign_index_names_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"does not exist.*pipelines.images"):
        load_index(str(tmp_path))
    publish(str(tmp_path / "index.json"), b'{"shards": 3}')
    with pytest.raises(ValueError, match="--repair"):
        load_index(str(tmp_path))


def test_classes_round_trip(tmp_path):
    classes = (ClassName(0, "tench", "n01440764"), ClassName(1, "Größe / 2", None))
    save_classes(str(tmp_path), reversed(classes))
    assert load_classes(str(tmp_path)) == classes
    assert load_class_names(str(tmp_path / "classes.parquet")) == {0: "tench", 1: "Größe / 2"}
    with pytest.raises(ValueError, match="does not exist"):
        load_class_names(str(tmp_path / "other"))


def test_sidecar_round_trip_and_its_counts():
    sidecar = Sidecar("train-000000", 3, 2, 10240, "ab", "cd", {"0": 3}, {"empty file": 2}, {"seed": 1})
    assert Sidecar.from_json(sidecar.to_json()) == sidecar
    assert json.loads(sidecar.to_json())["inputs"] == 5
    with pytest.raises(ValueError, match="5 inputs are not 4 samples"):
        Sidecar.from_json(sidecar.to_json().replace('"samples": 3', '"samples": 4'))
    for text in ("", "[]", "{}", '{"inputs": 1, "surprise": 2}'):
        with pytest.raises(ValueError, match="not a sidecar"):
            Sidecar.from_json(text)


def make_split(url, shards=SHARDS):
    save_classes(url, [ClassName(0, "zero")])
    save_index(url, url.rsplit("/", 1)[-1], shards)


@pytest.mark.parametrize("root", ["{tmp}/root", "memory://{name}/root", "file://{tmp}/root"])
def test_a_root_with_one_split_is_that_split_and_with_several_names_them(root, tmp_path):
    root = root.format(tmp=tmp_path, name=tmp_path.name)
    publish(f"{root}/notes/readme.txt", b"no split")
    make_split(f"{root}/train")
    for url in (root, f"{root}/", f"{root}/train", f"{root}/train/"):
        assert find_split(url).rstrip("/") == absolute(f"{root}/train")
        assert load_index(url) == load_index(f"{root}/train/index.json")
        assert load_class_names(url) == {0: "zero"}
    make_split(f"{root}/val")
    for read in (find_split, load_index, load_classes):
        with pytest.raises(ValueError, match=r"holds the splits train, val; give one of them, such as .*root/train"):
            read(root)
    assert load_index(f"{root}/val").name == "val"


def test_where_there_is_no_split_the_given_folder_is_named(tmp_path):
    for url in (str(tmp_path), str(tmp_path / "nowhere"), f"memory://{tmp_path.name}"):
        assert find_split(url) == url
        with pytest.raises(ValueError, match=f"{url}.*does not exist"):
            load_index(url)


def test_classes_of_others_are_told_apart(tmp_path):
    pq.write_table(pa.table({"id": [1], "label_name": ["x"]}), tmp_path / "classes.parquet")
    with pytest.raises(ValueError, match="has the columns id, label_name, not those of classes"):
        load_classes(str(tmp_path))
