"""Tars that are broken, cut or compressed, and web servers that are busy, through the command."""

import gzip
import json

import pytest

from pipelines.images import main
from spae.data.records import load_index
from spae.data.sources import web
from tests.image_layouts import img2dataset, jpegs, synset_tars, tar_bytes, train_pictures, write_files
from tests.pipelines.sharded import dead_letters, images, tar_hashes
from tests.web_server import WebServer


def test_compressed_tars_are_read(tmp_path):
    folder = write_files(tmp_path / "tars", {"a.tar.gz": gzip.compress(tar_bytes(img2dataset(10)))})
    samples = images("webdataset", folder, tmp_path / "shards")
    assert {sample["txt"].decode() for sample in samples.values()} == {f"picture {number}" for number in range(10)}
    assert json.loads(samples["000000000"]["json"])["original"] == {"status": "success"}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b'{"caption": "a cat", "exif": {"Make": "x"}}', {"caption": "a cat", "exif": {"Make": "x"}}),
        (b'{"aesthetics": NaN}', {"aesthetics": "NaN"}),
        (b"no json \xff", "no json \ufffd"),
        (b"[" * 10_000, "[" * 10_000),
        (b"", None),
    ],
)
def test_what_others_say_of_a_sample_stands_in_its_json(tmp_path, said, kept):
    write_files(tmp_path, {"a.tar": tar_bytes([("0.jpg", jpegs(1)[0]), ("0.json", said)])})
    (sample,) = images("webdataset", tmp_path / "a.tar", tmp_path / "shards").values()
    assert json.loads(sample["json"], parse_constant=pytest.fail).get("original") == kept


def cut_train_tar(folder):
    """ILSVRC2012's training images, half of them: a tar that is cut in the middle."""
    whole = tar_bytes(synset_tars(train_pictures(5)).items())
    return write_files(folder, {"train.tar": whole[: len(whole) // 2]}) / "train.tar"


def test_a_cut_container_fails_whatever_the_share_of_errors(tmp_path, caplog):
    arguments = ["--source", "imagenet", "--input", str(cut_train_tar(tmp_path)), "--output", str(tmp_path / "shards")]
    arguments += ["--split", "train", "--max-error-share", "1"]
    assert main(arguments) == 2
    assert "2 containers cannot be read whole: train.tar (truncated tar" in caplog.text
    assert not list((tmp_path / "shards").rglob("*.tar"))
    assert main([*arguments, "--broken-containers", "skip"]) == 0
    assert load_index(str(tmp_path / "shards/train")).samples >= 5
    assert "ILSVRC2012 has 1000 classes, these are" in caplog.text


def test_dry_run_names_what_cannot_be_used(tmp_path, caplog):
    folder = write_files(tmp_path / "tars", {**synset_tars(train_pictures(2)), "n01443537.tar": b"no tar" * 200})
    arguments = ["--source", "imagenet21k", "--input", str(folder), "--split", "train", "--output", str(tmp_path / "o")]
    assert main([*arguments, "--dry-run"]) == 2
    assert "1 containers cannot be read whole: n01443537.tar (broken tar" in caplog.text
    assert main([*arguments, "--dry-run", "--broken-containers", "skip"]) == 0
    assert "7 inputs of 4 classes in 1 shards" in caplog.text
    assert "1 inputs cannot be used: broken tar" in caplog.text
    assert not (tmp_path / "o").exists()


def test_busy_and_slow_servers_cost_no_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "FIRST_WAIT", 0.01)
    with WebServer({f"{i}.jpg": data for i, data in enumerate(jpegs(16))}).running() as site:
        kinds = ("slow", "busy503-4", "busy429-2", "slow")
        lines = [f"{site.url}/{kinds[i % 4]}/{i}.jpg,{i % 3}" for i in range(16)]
        lines += [f"{site.url}/403/0.jpg,0", f"{site.url}/busy503-99/1.jpg,1"]
        (tmp_path / "list.csv").write_text("\n".join(lines))
        flags = ("--max-error-share", "0.2", "--fetches", "5", "--timeout", "3")
        samples = images("list", tmp_path / "list.csv", tmp_path / "shards", *flags)
        assert sorted(sample["jpg"] for sample in samples.values()) == sorted(jpegs(16))
        assert dead_letters(tmp_path / "shards/train") == {"cannot be read": 1, "server unavailable": 1}
        assert 2 <= site.at_once <= 5
        images("list", tmp_path / "list.csv", tmp_path / "again", *flags[:2], "--fetches", "1")
        assert tar_hashes(tmp_path / "again/train") == tar_hashes(tmp_path / "shards/train")
