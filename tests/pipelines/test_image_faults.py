import json
import shutil
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from pipelines.images import main
from spae.data.records import load_index
from tests.pipelines.folders import add_garbage, digit_folder, digits, folder


def test_garbage_becomes_dead_letters_and_nothing_is_lost(tmp_path, caplog):
    source = digit_folder(tmp_path / "images", 60)
    expected = add_garbage(source)
    assert folder(source, tmp_path / "shards", "--samples-per-shard", "20") == 1
    assert "over --max-error-share 0.01" in caplog.text
    split = tmp_path / "shards" / "train"
    rows = [json.loads(line) for path in sorted((split / "errors").iterdir()) for line in path.read_text().splitlines()]
    assert {row["source_path"]: row["reason"] for row in rows} == expected
    index = load_index(str(split))
    assert index.samples == 60
    assert sum(shard.errors for shard in index.shards) == len(rows) == len(expected)
    for shard in index.shards:
        sidecar = json.loads((split / f"{shard.name}.json").read_text())
        assert sidecar["inputs"] == sidecar["samples"] + sidecar["errors"]
        assert sum(sidecar["reasons"].values()) == sidecar["errors"]
    assert folder(source, tmp_path / "shards", "--samples-per-shard", "20", "--max-error-share", "0.2") == 0


def test_pixel_damage_is_found_by_check_decode(tmp_path):
    source = digit_folder(tmp_path / "images", 20)
    victim = next((source / "three").glob("*.png"))
    data = victim.read_bytes()
    begin = data.index(b"IDAT")
    length = int.from_bytes(data[begin - 4 : begin])
    chunk = b"IDAT" + bytes(255 - byte for byte in data[begin + 4 : begin + 4 + length])
    victim.write_bytes(data[:begin] + chunk + zlib.crc32(chunk).to_bytes(4) + data[begin + 8 + length :])
    assert folder(source, tmp_path / "header", "--check", "header") == 0
    assert folder(source, tmp_path / "decode", "--check", "decode", "--max-error-share", "0.1") == 0
    (row,) = (tmp_path / "decode/train/errors/train-000000.jsonl").read_text().splitlines()
    assert json.loads(row)["source_path"] == f"three/{victim.name}"
    assert json.loads(row)["reason"] == "broken PNG"


def test_splits_whose_labels_disagree_are_told_apart(tmp_path, caplog):
    source = digit_folder(tmp_path / "images", 30)
    assert folder(source, tmp_path / "shards") == 0
    assert (
        main(["--source", "folder", "--split", "val", "--input", str(source), "--output", str(tmp_path / "shards")])
        == 0
    )
    assert "other classes" not in caplog.text
    shutil.rmtree(source / "four")
    assert (
        main(["--source", "folder", "--split", "test", "--input", str(source), "--output", str(tmp_path / "shards")])
        == 0
    )
    assert caplog.text.count("other classes") == 2


def test_a_table_of_others_beside_the_split_is_none_of_ours(tmp_path, caplog):
    source = digit_folder(tmp_path / "images", 6)
    for name in ("other", "damaged"):
        (tmp_path / "shards" / name).mkdir(parents=True)
    pq.write_table(pa.table({"id": [1], "label_name": ["x"]}), tmp_path / "shards/other/classes.parquet")
    (tmp_path / "shards/damaged/classes.parquet").write_bytes(b"PAR1")
    assert folder(source, tmp_path / "shards") == 0
    assert "other classes" not in caplog.text


def test_a_shard_without_samples_fails_the_run_and_is_named(tmp_path, caplog):
    source = digit_folder(tmp_path / "images", 12)
    for number in range(8):
        (source / "one" / f"bad{number}.png").write_bytes(b"")
    assert folder(source, tmp_path / "shards", "--samples-per-shard", "1", "--max-error-share", "1") == 1
    split = tmp_path / "shards" / "train"
    assert len(list(split.glob("*.tar"))) == 12
    assert not (split / "index.json").exists()
    assert caplog.text.count("has no usable input and is not written: {'empty file': 1}") == 8
    for path in source.glob("one/bad*"):
        path.unlink()
    assert folder(source, tmp_path / "shards", "--samples-per-shard", "1") == 2  # the inputs are others now
    assert folder(source, tmp_path / "shards", "--samples-per-shard", "1", "--replace") == 0
    assert load_index(str(split)).samples == 12


def test_one_key_in_two_formats_gives_two_samples(tmp_path):
    source = digit_folder(tmp_path / "images", 6)
    png = next(source.glob("*/*.png"))
    (png.parent / f"{png.stem}.jpg").write_bytes(next(source.glob("*/*.JPEG")).read_bytes())
    assert folder(source, tmp_path / "shards") == 0
    samples = list(webdataset.WebDataset(str(tmp_path / "shards/train/train-000000.tar"), shardshuffle=False))
    assert len({sample["__key__"] for sample in samples}) == 7


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--smaples-per-shard", "5"], "did you mean --samples-per-shard?"),
        (["--direct_num_worker=2"], "did you mean --direct_num_workers?"),
        (["--split", "training"], "train, val, test"),
        (["--samples-per-shard", "0"], "must be at least 1"),
        (["--split", "a/b"], "must be ASCII letters"),
        (["--dry_run=True"], "Did you mean --dry-run?"),
        (["--limit", "-1"], "--limit -1 must be at least 1"),
        (["--max-error-share", "2"], "--max-error-share 2.0 must be between 0 and 1"),
    ],
)
def test_unusable_arguments_are_named(tmp_path, caplog, flags, message):
    assert digits(tmp_path, *flags) == 2
    assert message in caplog.text


@pytest.mark.parametrize(
    "flags",
    [["--check", "nothing"], ["--limit", "many"], ["--seed", "x"], ["--num_workers", "x"]],
)
def test_values_of_another_type_end_with_status_2(tmp_path, flags):
    with pytest.raises(SystemExit) as ended:
        digits(tmp_path, *flags)
    assert ended.value.code == 2
    assert not any(tmp_path.iterdir())


def test_output_inside_of_the_input_is_refused(tmp_path):
    source = digit_folder(tmp_path / "images", 4)
    assert folder(source, source / "shards") == 2
