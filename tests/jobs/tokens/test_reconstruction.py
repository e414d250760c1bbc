"""Shards as the workers rebuild them, without Ray."""

import dataclasses
import io
import json
import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from jobs.reconstruct_shards import ReconstructFlags, prepare
from jobs.tokens.reconstruction import ShardReconstructor
from pipelines.verify import main as verify
from spae.data.media import decode_image, encode_png
from spae.data.records import Sidecar, load_index, save_classes
from spae.data.tar import read_samples
from spae.data.token_table import read_token_table
from spae.model import SPAE
from spae.pyramid import TokenPyramid
from tests import tiny_models, tiny_spae
from tests.photographs import crops
from tests.tiny_reconstruction import reconstruct_tables
from tests.tiny_shards import CLASSES, samples, write_split
from tests.tiny_tokens import tokenize_split

KEYS = [key for seed, count in enumerate((9, 5, 7)) for key, _, _ in samples(count, seed)]
BAD = KEYS.pop(11)  # cannot be decoded


@pytest.fixture(scope="module")
def tokens(model, split, tmp_path_factory):
    made = tmp_path_factory.mktemp("tokens")
    tokenize_split(model, split, made)
    shutil.copy(f"{split}/classes.parquet", made)
    return made


@pytest.fixture(scope="module")
def rebuilt(model, tokens, tmp_path_factory):
    made = tmp_path_factory.mktemp("rebuilt")
    assert [outcome.reason for outcome in reconstruct_tables(model, tokens, made)] == [""] * 3
    return made / "test"


def rebuilt_samples(folder):
    return [sample for shard in load_index(str(folder)).shards for sample in read_samples(shard.url)]


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_verify_accepts_what_was_written(rebuilt, caplog):
    caplog.set_level("INFO")
    assert verify([str(rebuilt)]) == 0
    assert "3 shards, 20 samples, 0 errors; 0 deviations" in caplog.text


def test_keys_and_labels_are_the_tables_in_their_order(rebuilt, tokens):
    rows = [read_token_table(str(path))[0] for path in sorted(tokens.glob("test-*.parquet"))]
    found = rebuilt_samples(rebuilt)
    assert [sample.key for sample in found] == [key for part in rows for key in part.keys] == KEYS
    assert [sample.label for sample in found] == [label for part in rows for label in part.labels]


@pytest.mark.parametrize("layers", [1, 3, 4])
def test_pictures_are_what_the_model_decodes_from_the_first_layers(model, tokens, tmp_path, layers):
    reconstruct_tables(model, tokens, tmp_path, layers=layers)
    rows, _ = read_token_table(str(tokens / "test-000002.parquet"))
    expected = SPAE.from_pretrained(model).decode(TokenPyramid.from_arrays(rows.layers), layers)
    found = [decode_image(sample.media) for sample in read_samples(str(tmp_path / "test/test-000002.tar"))]
    difference = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2) - expected * 255
    assert float(difference.abs().max()) < 0.501  # rounding, and the last bits of another batch


def test_members_say_what_they_are_and_what_made_them(rebuilt, model):
    with tarfile.open(rebuilt / "test-000000.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
        assert {(member.mtime, member.uname) for member in tar} == {(0, "spae")}
    name = KEYS[1]
    assert {key.partition(".")[2] for key in members} == {"png", "cls", "txt", "json"}
    assert (members[f"{name}.cls"], members[f"{name}.txt"]) == (b"1", CLASSES[1].encode())
    with Image.open(io.BytesIO(members[f"{name}.png"])) as picture:
        assert (picture.format, picture.size) == ("PNG", (16, 16))
    told = json.loads(members[f"{name}.json"])
    fingerprint = SPAE.from_pretrained(model).fingerprint
    assert (told["source_path"], told["source_key"]) == ("test-000000.parquet", name)
    assert told["reconstruction"] == {
        "model_fingerprint": fingerprint,
        "tokens_model_fingerprint": fingerprint,
        "words_fingerprint": tiny_spae.vocabulary().words_fingerprint,
        "layers": 4,
        "batch": 4,
        "device": "cpu",
    }


def test_the_same_tables_give_the_same_bytes_in_any_order_and_state(rebuilt, model, tokens, tmp_path):
    reconstruct_tables(model, tokens, tmp_path, limit=1)
    assert [shard.name for shard in load_index(str(tmp_path / "test")).shards] == ["test-000000"]
    (tmp_path / "test/test-000001.tar").write_bytes(b"of a try that was killed")
    (tmp_path / "test/test-000002.tar.tmp-1").write_bytes(b"of another")
    kept = (tmp_path / "test/test-000000.tar").stat().st_ino
    assert [one.shard for one in reconstruct_tables(model, tokens, tmp_path)] == ["test-000001", "test-000002"]
    assert (tmp_path / "test/test-000000.tar").stat().st_ino == kept
    assert tree(tmp_path / "test") == tree(rebuilt)


def test_other_layers_are_refused_and_replace_if_asked(rebuilt, model, tokens, tmp_path):
    shutil.copytree(rebuilt, tmp_path / "test")
    with pytest.raises(ValueError, match=r"test-000000 was made with layers 4, here it is 2.*--replace"):
        reconstruct_tables(model, tokens, tmp_path, layers=2)
    assert tree(tmp_path / "test") == tree(rebuilt)
    reconstruct_tables(model, tokens, tmp_path, layers=2, replace=True)
    assert verify([str(tmp_path)]) == 0
    sidecar = Sidecar.from_json((tmp_path / "test/test-000001.json").read_text())
    assert sidecar.settings["reconstruction"]["layers"] == 2


def test_shards_that_no_table_has_go_where_asked(rebuilt, model, tokens, tmp_path):
    shutil.copytree(rebuilt, tmp_path / "rebuilt/test")
    shutil.copytree(tokens, tmp_path / "tokens")
    (tmp_path / "tokens/test-000002.parquet").unlink()
    with pytest.raises(ValueError, match="test-000002 has no table"):
        reconstruct_tables(model, tmp_path / "tokens", tmp_path / "rebuilt")
    assert reconstruct_tables(model, tmp_path / "tokens", tmp_path / "rebuilt", replace=True) == []
    assert [shard.name for shard in load_index(str(tmp_path / "rebuilt")).shards] == ["test-000000", "test-000001"]
    assert verify([str(tmp_path / "rebuilt")]) == 0


def test_rows_of_unknown_words_are_dead_letters(model, tokens, tmp_path, caplog):
    shutil.copytree(tokens, tmp_path / "tokens")
    url = tmp_path / "tokens/test-000001.parquet"
    table = pq.read_table(url)
    ids = pa.array([[0], [40], [-1], [39]], table.schema.field("layer_1").type)
    pq.write_table(table.set_column(3, table.schema.field("layer_1"), ids), url)
    outcomes = reconstruct_tables(model, tmp_path / "tokens", tmp_path)
    assert [(outcome.errors, outcome.reason) for outcome in outcomes] == [(0, ""), (2, ""), (0, "")]
    rows = [json.loads(line) for line in (tmp_path / "test/errors/test-000001.jsonl").read_text().splitlines()]
    keys = table["key"].to_pylist()
    assert [(row["key"], row["reason"]) for row in rows] == [(key, "ids outside the vocabulary") for key in keys[1:3]]
    assert [sample.key for sample in read_samples(str(tmp_path / "test/test-000001.tar"))] == [keys[0], keys[3]]
    caplog.set_level("INFO")
    assert verify([str(tmp_path / "test")]) == 0
    assert "18 samples, 2 errors" in caplog.text


def test_a_key_in_two_rows_fails_its_shard_alone(model, tokens, tmp_path):
    shutil.copytree(tokens, tmp_path / "tokens")
    url = tmp_path / "tokens/test-000000.parquet"
    table = pq.read_table(url)
    pq.write_table(table.set_column(0, table.schema.field("key"), pa.array(["twice"] * 9)), url)
    outcomes = reconstruct_tables(model, tmp_path / "tokens", tmp_path)
    assert "has the key twice in several rows" in outcomes[0].reason
    assert [outcome.reason for outcome in outcomes[1:]] == ["", ""]
    assert not (tmp_path / "test/test-000000.tar").exists()
    assert not (tmp_path / "test/index.json").exists()


def test_keys_that_no_tar_can_hold_are_made_safe_and_told(model, tmp_path):
    write_split(tmp_path / "split", [samples(1)])
    tokenize_split(model, str(tmp_path / "split"), tmp_path / "tokens")
    url = tmp_path / "tokens/test-000000.parquet"
    table = pq.read_table(url)
    pq.write_table(table.set_column(0, table.schema.field("key"), pa.array(["folder/a.photo"])), url)
    reconstruct_tables(model, tmp_path / "tokens", tmp_path)
    with tarfile.open(tmp_path / "test/test-000000.tar") as tar:
        (name,) = [name for name in tar.getnames() if name.endswith(".json")]
        assert json.load(tar.extractfile(name))["source_key"] == "folder/a.photo"
    assert verify([str(tmp_path / "test")]) == 0


def test_a_table_without_rows_is_a_shard_without_samples(model, tmp_path):
    write_split(tmp_path / "split", [[("broken", b"broken", 0)], samples(2)])
    tokenize_split(model, str(tmp_path / "split"), tmp_path / "tokens")
    reconstruct_tables(model, tmp_path / "tokens", tmp_path)
    assert [shard.samples for shard in load_index(str(tmp_path / "test")).shards] == [0, 2]
    assert verify([str(tmp_path / "test")]) == 0


def test_a_table_that_changed_since_the_start_is_refused(model, tokens, tmp_path):
    flags = ReconstructFlags(model=model, tokens=str(tokens), output=str(tmp_path))
    splits, job = prepare(flags, SPAE.from_pretrained(model))
    planned = dataclasses.replace(splits[0].shards[0], plan="0" * 64)
    assert "is another table than when the job began" in ShardReconstructor(job).reconstruct(planned).reason
    with pytest.raises(ValueError, match="was 0000"):
        ShardReconstructor(dataclasses.replace(job, model_fingerprint="0" * 64))


def test_there_and_back_and_there_again_over_digits_and_photographs(tmp_path):
    tiny_models.save_digit_split(tmp_path / "test", "test", limit=24)
    pictures = crops(32, 8).permute(0, 2, 3, 1).numpy()
    photographs = [(f"photo-{number}", encode_png(picture), None) for number, picture in enumerate(pictures)]
    write_split(tmp_path / "photos", [photographs[:10], photographs[10:]], "photos")
    for name in ("test", "photos"):
        tokenize_split("digits", str(tmp_path / name), tmp_path / "tokens", batch=8)
    reconstruct_tables("digits", tmp_path / "tokens", tmp_path / "rebuilt", batch=8)
    for name in ("test", "photos"):
        assert verify([str(tmp_path / "rebuilt" / name)]) == 0
        tokenize_split("digits", str(tmp_path / "rebuilt" / name), tmp_path / "again", batch=8)
    for path in (tmp_path / "tokens").glob("*-*.parquet"):
        there, back = (read_token_table(str(folder / path.name))[0] for folder in (path.parent, tmp_path / "again"))
        assert (back.keys, back.labels) == (there.keys, there.labels)
        assert [layer.shape for layer in back.layers] == [layer.shape for layer in there.layers]
        if path.stem == "test-000000":  # digits, which the model was trained on: 75% keep their first word
            assert (there.layers[0] == back.layers[0]).mean() > 0.5


def test_a_split_without_labels_beside_one_with_classes_gets_none(model, tokens, tmp_path):
    shutil.copytree(tokens, tmp_path / "tokens")
    write_split(tmp_path / "photos", [[(key, data, None) for key, data, _ in samples(3)]], "photos")
    tokenize_split(model, str(tmp_path / "photos"), tmp_path / "tokens")
    reconstruct_tables(model, tmp_path / "tokens", tmp_path / "rebuilt")
    for name, has_classes in (("test", True), ("photos", False)):
        assert (tmp_path / "rebuilt" / name / "classes.parquet").exists() == has_classes
        assert verify([str(tmp_path / "rebuilt" / name)]) == 0


def test_names_of_classes_are_part_of_what_determines_a_shard(rebuilt, model, tokens, tmp_path):
    shutil.copytree(rebuilt, tmp_path / "test")
    shutil.copytree(tokens, tmp_path / "tokens")
    save_classes(str(tmp_path / "tokens"), ())
    with pytest.raises(ValueError, match="with other names of classes"):
        reconstruct_tables(model, tmp_path / "tokens", tmp_path)
