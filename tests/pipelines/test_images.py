import collections
import json
import os
import subprocess
import tarfile
from pathlib import Path

import fsspec
import pytest
import webdataset
from open_clip_train.data import get_dataset_size
from PIL import Image

from spae.data.media import decode_image
from spae.data.publishing import read_bytes
from spae.data.records import check_key, load_class_names, load_index
from tests.pipelines.folders import digit_folder, digits, digits_command, folder, tree_hashes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    output = tmp_path_factory.mktemp("shards")
    assert digits(output, "--samples-per-shard", "100") == 0
    return output / "val"


def members(tar):
    with tarfile.open(tar) as file:
        return [(member, file.extractfile(member).read()) for member in file]


def test_the_split_is_what_the_contract_says(shards):
    assert sorted(os.listdir(shards)) == sorted(
        ["plan", "plan.json", "index.json", "index.parquet", "sizes.json", "classes.parquet"]
        + [f"val-{index:06d}.{suffix}" for index in range(3) for suffix in ("tar", "json")]
    )
    index = load_index(str(shards))
    assert [shard.samples for shard in index.shards] == [100, 100, 70]
    for shard in index.shards:
        assert shard.bytes == os.path.getsize(shard.url)
        assert shard.sha256 == tree_hashes(shards)[f"{shard.name}.tar"]
    sidecar = json.loads((shards / "val-000000.json").read_text())
    assert (sidecar["inputs"], sidecar["samples"], sidecar["errors"]) == (100, 100, 0)
    assert sum(sidecar["classes"].values()) == 100
    assert sidecar["settings"]["source"]["name"] == "digits"
    assert load_class_names(str(shards))[3] == "three"


def test_each_sample_has_its_four_members_and_fixed_headers(shards):
    for tar in sorted(shards.glob("*.tar")):
        suffixes = collections.defaultdict(list)
        for member, data in members(tar):
            assert (member.mtime, member.mode, member.uid, member.gid, member.uname) == (0, 0o444, 0, 0, "spae")
            key, suffix = member.name.split(".", 1)
            suffixes[check_key(key)].append(suffix)
            if suffix == "json":
                values = json.loads(data)
                assert values["source_path"].startswith("load_digits/")
                assert len(values["sha256"]) == 64
        assert set(map(tuple, suffixes.values())) == {("cls", "json", "png", "txt")}


def test_webdataset_and_open_clip_read_what_was_written(shards):
    names = load_class_names(str(shards))
    urls = sorted(str(path) for path in shards.glob("*.tar"))
    data = webdataset.WebDataset(urls, shardshuffle=False, empty_check=True)
    samples = list(data)
    assert len({sample["__key__"] for sample in samples}) == len(samples) == 270
    for sample in samples[::30]:
        assert sample["txt"].decode() == names[int(sample["cls"])]
        assert decode_image(sample["png"]).shape == (32, 32, 3)
    assert get_dataset_size(str(shards / "val-{000000..000002}.tar")) == (270, 3)


@pytest.mark.slow
def test_ray_data_reads_what_was_written(shards, tmp_path_factory):
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, _temp_dir=str(tmp_path_factory.mktemp("r")))
    try:
        rows = ray.data.read_webdataset(sorted(map(str, shards.glob("*.tar"))), decoder=None).take_all()
    finally:
        ray.shutdown()
    assert len({row["__key__"] for row in rows}) == 270
    assert {frozenset(row) - {"__url__"} for row in rows} == {frozenset(["__key__", "cls", "json", "png", "txt"])}


def test_the_same_bytes_again(shards, tmp_path):
    assert digits(tmp_path, "--samples-per-shard", "100") == 0
    assert tree_hashes(tmp_path / "val") == tree_hashes(shards)


@pytest.mark.slow
def test_the_same_bytes_with_another_worker_count(shards, tmp_path):
    flags = ["--direct_num_workers", "2", "--direct_running_mode", "multi_processing"]
    subprocess.run([*digits_command(tmp_path), "--samples-per-shard", "100", *flags], cwd=ROOT, check=True)
    assert tree_hashes(tmp_path / "val") == tree_hashes(shards)


def test_seeds_decide_order_and_split(shards, tmp_path):
    def keys(folder):
        return [name for tar in sorted(folder.glob("*.tar")) for name in tarfile.open(tar).getnames() if "cls" in name]

    assert digits(tmp_path / "order", "--samples-per-shard", "100", "--seed", "1") == 0
    assert digits(tmp_path / "split", "--samples-per-shard", "100", "--split-seed", "1") == 0
    first, order, split = keys(shards), keys(tmp_path / "order" / "val"), keys(tmp_path / "split" / "val")
    assert first != order
    assert sorted(first) == sorted(order)
    assert sorted(first) != sorted(split)
    assert first != sorted(first)


def test_a_rerun_writes_nothing_and_a_lost_shard_alone(shards, tmp_path, caplog):
    flags = ("--samples-per-shard", "100")
    assert digits(tmp_path, *flags) == 0
    split = tmp_path / "val"
    kept = os.stat(split / "val-000000.tar").st_ino
    os.remove(split / "val-000001.tar")
    assert digits(tmp_path, *flags) == 0
    assert "skipped 170 that were finished before" in caplog.text
    assert os.stat(split / "val-000000.tar").st_ino == kept
    assert tree_hashes(split) == tree_hashes(shards)


def test_other_settings_need_replace(shards, tmp_path, caplog):
    assert digits(tmp_path, "--samples-per-shard", "60") == 0
    before = tree_hashes(tmp_path)
    assert digits(tmp_path, "--samples-per-shard", "100") == 2
    assert "samples_per_shard is 60 there, 100 here" in caplog.text
    assert "--replace" in caplog.text
    assert tree_hashes(tmp_path) == before
    assert digits(tmp_path, "--samples-per-shard", "100", "--replace") == 0
    assert tree_hashes(tmp_path / "val") == tree_hashes(shards)


def test_the_full_run_continues_a_pilot(shards, tmp_path):
    assert digits(tmp_path, "--samples-per-shard", "100", "--limit", "150") == 0
    split = tmp_path / "val"
    assert load_index(str(split)).samples == 150
    kept = os.stat(split / "val-000000.tar").st_ino
    assert digits(tmp_path, "--samples-per-shard", "100") == 0
    assert os.stat(split / "val-000000.tar").st_ino == kept
    assert tree_hashes(split) == tree_hashes(shards)
    assert digits(tmp_path, "--samples-per-shard", "100", "--limit", "150") == 2


def test_dry_run_writes_nothing(tmp_path, caplog):
    assert digits(tmp_path / "new", "--dry-run") == 0
    assert not (tmp_path / "new").exists()
    assert "270 inputs of 10 classes in 1 shards" in caplog.text


def test_folders_of_images_keep_their_original_bytes(tmp_path):
    source = digit_folder(tmp_path / "images", 40)
    assert folder(source, tmp_path / "shards", "--samples-per-shard", "15") == 0
    split = tmp_path / "shards" / "train"
    assert load_class_names(str(split)) == dict(enumerate(sorted(os.listdir(source))))
    samples = list(webdataset.WebDataset(sorted(map(str, split.glob("*.tar"))), shardshuffle=False))
    assert len(samples) == 40
    for sample in samples:
        values = json.loads(sample["json"])
        original = (source / values["source_path"]).read_bytes()
        assert original == (sample.get("jpg") or sample.get("png"))
        assert values["label_name"] == Path(values["source_path"]).parent.name == sample["txt"].decode()
        assert int(sample["cls"]) == values["label"]


def test_other_still_formats_are_stored_as_png_pixel_for_pixel(tmp_path):
    source = digit_folder(tmp_path / "images", 10)
    picture = next((source / "one").glob("*.*"))
    image = Image.open(picture).convert("RGB")
    image.save(source / "one" / "other.webp", lossless=True)
    assert folder(source, tmp_path / "shards") == 0
    samples = {
        s["__key__"]: s
        for s in webdataset.WebDataset(str(tmp_path / "shards/train/train-000000.tar"), shardshuffle=False)
    }
    values = json.loads(samples["one_other"]["json"])
    assert (values["source_format"], values["width"]) == ("WEBP", 32)
    assert (decode_image(samples["one_other"]["png"]) == decode_image(picture.read_bytes())).all()


def test_memory_holds_the_same_split(shards, tmp_path):
    url = f"memory://{tmp_path.name}"
    assert digits(url, "--samples-per-shard", "100") == 0
    file_system, path = fsspec.url_to_fs(f"{url}/val")
    names = [name.removeprefix(f"{path}/") for name in file_system.find(path)]
    assert set(names) == set(tree_hashes(shards))
    for name in names:
        assert read_bytes(f"{url}/val/{name}") == (shards / name).read_bytes()
    assert load_index(f"{url}/val").shards[0].url == f"{url}/val/val-000000.tar"


def test_a_store_holds_the_same_split(shards, google_storage):
    url = f"{google_storage}/shards"
    assert digits(url, "--samples-per-shard", "100") == 0
    assert [shard.sha256 for shard in load_index(f"{url}/val").shards] == [
        shard.sha256 for shard in load_index(str(shards)).shards
    ]
    file_system, path = fsspec.url_to_fs(f"{url}/val")
    assert {name.removeprefix(f"{path}/") for name in file_system.find(path)} == set(tree_hashes(shards))
    assert read_bytes(f"{url}/val/val-000002.tar") == (shards / "val-000002.tar").read_bytes()
    assert digits(url, "--samples-per-shard", "100") == 0
    assert digits(url, "--samples-per-shard", "90") == 2
