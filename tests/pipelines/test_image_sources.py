"""Every source through the command: shards, accounts, labels, verification."""

import json
import shutil

import fsspec
import open_clip_train.data
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.images import main
from pipelines.verify import main as verify
from spae.data.records import load_classes, load_index
from spae.data.tar import read_samples
from tests.image_layouts import (
    SYNSETS,
    add_links,
    development_kit,
    img2dataset,
    jpegs,
    synset_tars,
    tar_bytes,
    train_pictures,
    val_pictures,
    write_files,
)
from tests.pipelines.sharded import dead_letters, images, tar_hashes

WNIDS = sorted(SYNSETS)


def test_all_forms_of_imagenet_give_the_same_tars(tmp_path):
    pictures = train_pictures(5)
    tars = synset_tars(pictures)
    write_files(tmp_path, {"train.tar": tar_bytes(tars.items()), "all.tar": tar_bytes(pictures.items())})
    write_files(tmp_path / "tars", tars)
    write_files(tmp_path / "folders", pictures)
    for form in ("train.tar", "tars", "folders", "all.tar"):
        samples = images("imagenet", tmp_path / form, tmp_path / "shards" / form)
        assert tar_hashes(tmp_path / f"shards/{form}/train") == tar_hashes(tmp_path / "shards/train.tar/train")
    assert len(samples) == 20
    for path, data in pictures.items():
        wnid, name = path.split("/")
        sample = samples[name.removesuffix(".JPEG")]
        said = json.loads(sample["json"])
        assert (sample["jpg"], int(sample["cls"]), sample["txt"].decode()) == (
            data,
            WNIDS.index(wnid),
            said["label_name"],
        )
        assert (said["wnid"], said["source_path"]) == (wnid, path)
    assert [row.wnid for row in load_classes(str(tmp_path / "shards/tars/train"))] == WNIDS


def test_training_and_validation_have_the_same_labels(tmp_path, caplog):
    pictures, wnids = val_pictures()
    write_files(tmp_path, {"train.tar": tar_bytes(synset_tars(train_pictures()).items())})
    write_files(tmp_path, {"val.tar": tar_bytes(pictures.items())})
    kit = development_kit(tmp_path / "kit", wnids)
    images("imagenet", tmp_path / "train.tar", tmp_path / "shards", "--annotations", kit)
    samples = images("imagenet", tmp_path / "val.tar", tmp_path / "shards", "--annotations", kit, split="val")
    assert [samples[name.removesuffix(".JPEG")]["txt"].decode() for name in pictures] == [
        SYNSETS[wnid].split(",")[0] for wnid in wnids
    ]
    assert "other classes" not in caplog.text


def test_21k_and_its_garbage_are_accounted_for(tmp_path):
    tars = synset_tars(train_pictures(4))
    again = train_pictures(4)
    tars["n01440764.tar"] = tar_bytes(
        [
            *[(name.split("/")[1], data) for name, data in again.items() if name.startswith("n01440764")],
            *[("n01440764_10026.JPEG", again["n01440764/n01440764_10031.JPEG"])] * 2,
            ("../n01440764_9.JPEG", b"x"),
            ("n01440764_8.JPEG", b"words"),
        ]
    )
    tars["n03995372.tar"] = tars["n03995372.tar"].rstrip(b"\0")[:-600]
    folder = write_files(tmp_path / "winter21", tars)
    add_links(folder / "n01440764.tar")
    flags = ("--max-error-share", "0.5", "--broken-containers", "skip")
    samples = images("imagenet21k", folder, tmp_path / "shards", *flags)
    assert len(samples) == 4 + 4 + 4 + 3 + 2
    assert dead_letters(tmp_path / "shards/train") == {
        "unsafe member name": 1,
        "no image": 1,
        "not a regular file": 3,
        "truncated tar": 1,
    }
    doubled = sorted(key for key in samples if key.startswith("n01440764_10026"))
    assert len(doubled) == 3
    assert load_index(str(tmp_path / "shards/train")).samples == 17


def test_captions_without_labels_become_samples_that_all_readers_take(tmp_path):
    write_files(tmp_path / "laion", {"00000.tar": tar_bytes(img2dataset(10)), "00001.tar": tar_bytes(img2dataset(5))})
    samples = images("webdataset", tmp_path / "laion", tmp_path / "shards")
    assert len(samples) == 15
    for sample in samples.values():
        said = json.loads(sample["json"])
        assert "cls" not in sample
        assert (said["label"], said["label_name"], said["wnid"]) == (None, None, None)
        assert sample["txt"].decode() == said["caption"] == f"picture {int(sample['__key__'][:9])}"
        assert open_clip_train.data.filter_no_caption_or_no_image(sample)
    split = str(tmp_path / "shards/train")
    assert load_classes(split) == ()
    urls = [shard.url for shard in load_index(split).shards]
    assert {sample.label for url in urls for sample in read_samples(url)} == {None}
    assert (
        main(["--source", "webdataset", "--input", split, "--split", "again", "--output", str(tmp_path / "new")]) == 0
    )
    assert load_index(str(tmp_path / "new/again")).samples == 15


def test_labelled_tars_keep_labels_and_lose_what_has_none(tmp_path):
    members = [
        (f"{i}.{suffix}", data)
        for i, jpg in enumerate(jpegs(9))
        for suffix, data in (("cls", b"%d" % (i % 2)), ("jpg", jpg))
    ]
    members.remove(("4.cls", b"0"))
    folder = write_files(tmp_path / "tars", {"a.tar": tar_bytes(members), "b.tar": tar_bytes(members[:6])})
    samples = images("webdataset", folder / "{a,b}.tar", tmp_path / "shards", "--max-error-share", "0.1")
    assert len(samples) == 8 + 3
    assert dead_letters(tmp_path / "shards/train") == {"no label": 1}
    assert all(int(sample["cls"]) == int(key[0]) % 2 for key, sample in samples.items())
    assert {sample["txt"] for sample in samples.values()} == {b"0", b"1"}
    names = write_files(tmp_path, {"names.txt": b"even\nodd\n"}) / "names.txt"
    samples = images("webdataset", folder / "b.tar", tmp_path / "named", "--annotations", names)
    assert {key: sample["txt"] for key, sample in samples.items()} == {"0": b"even", "1": b"odd", "2": b"even"}


def test_a_hubs_parquet_files(tmp_path):
    rows = [{"bytes": data, "path": f"{i}.jpg"} for i, data in enumerate([*jpegs(20), b"words"])]
    table = pa.table({"image": rows, "label": [i % 3 for i in range(21)], "text": [f"words of {i}" for i in range(21)]})
    features = {"label": {"names": ["cat", "dog", "fox"], "_type": "ClassLabel"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data/train-00000-of-00001.parquet", row_group_size=6)
    flags = ("--max-error-share", "0.1")
    samples = images("parquet", tmp_path / "data", tmp_path / "shards", *flags)
    assert {int(key): sample["jpg"] for key, sample in samples.items()} == dict(enumerate(jpegs(20)))
    for key, sample in samples.items():
        said = json.loads(sample["json"])
        assert (said["label"], said["label_name"]) == (int(key) % 3, ["cat", "dog", "fox"][int(key) % 3])
        assert said["caption"] == sample["txt"].decode() == f"words of {key}"
        assert said["source_path"] == f"train-00000-of-00001.parquet#{key}"
    assert dead_letters(tmp_path / "shards/train") == {"no image": 1}
    shutil.rmtree(tmp_path / "shards/train/errors")
    (tmp_path / "shards/train/train-000001.tar").unlink()
    before = tar_hashes(tmp_path / "shards/train")
    assert verify([str(tmp_path / "shards/train"), "--repair"]) == 0
    assert set(before) < set(tar_hashes(tmp_path / "shards/train"))


def test_a_list_with_a_line_twice(tmp_path):
    files = {f"images/{i}.jpg": data for i, data in enumerate(jpegs(6))}
    lines = [f"{name},{'even' if i % 2 == 0 else 'odd'}" for i, name in enumerate(files)]
    refused = ["simplecache::file:///etc/passwd,odd", "images/gone.jpg,even"]
    write_files(tmp_path, {**files, "list.csv": "\n".join([*lines, lines[0], lines[0], *refused]).encode()})
    samples = images("list", tmp_path / "list.csv", tmp_path / "shards", "--max-error-share", "0.3")
    assert sorted(key.split("-")[0] for key in samples) == sorted([f"images_{i}" for i in range(6)] + ["images_0"] * 2)
    assert dead_letters(tmp_path / "shards/train") == {"protocol not allowed": 1, "cannot be read": 1}
    assert {sample["txt"] for sample in samples.values()} == {b"even", b"odd"}


def test_a_store_is_listed_and_read_by_range(tmp_path, google_storage):
    tars = synset_tars(train_pictures(5))
    file_system, _ = fsspec.url_to_fs(google_storage)
    file_system.pipe("bucket/in/train.tar", tar_bytes(tars.items()))
    file_system.pipe({f"bucket/in/tars/{name}": data for name, data in tars.items()})
    for form in ("train.tar", "tars"):
        images("imagenet", f"{google_storage}/in/{form}", f"{google_storage}/out/{form}")
    local = write_files(tmp_path / "local", tars)
    images("imagenet", local, tmp_path / "shards")
    hashes = tar_hashes(tmp_path / "shards/train")
    for form in ("train.tar", "tars"):
        assert [shard.sha256 for shard in load_index(f"{google_storage}/out/{form}/train").shards] == hashes


def test_dry_run_tells_what_its_estimate_leaves_out(tmp_path, caplog):
    caplog.set_level("INFO")
    folder = write_files(tmp_path, {"list.txt": b"a.jpg 0\nb.jpg 1\nexec://c.jpg 1\n"})
    arguments = ["--source", "list", "--input", str(folder / "list.txt"), "--split", "train"]
    assert main([*arguments, "--output", str(tmp_path / "o"), "--dry-run"]) == 0
    assert "the listing tells no size of 2 inputs; a pilot" in caplog.text


def test_sounds_and_texts_beside_pictures_are_no_inputs(tmp_path, caplog):
    caplog.set_level("INFO")
    sounds = {f"birds/{i}.wav": b"RIFF" for i in range(40)} | {f"birds/{i}.txt": b"words" for i in range(20)}
    folder = write_files(tmp_path / "media", {**sounds, **{f"birds/{i}.jpg": data for i, data in enumerate(jpegs(9))}})
    assert len(images("folder", folder, tmp_path / "shards")) == 9
    assert "60 files are no inputs, as --include takes none of their names: 40 .wav, 20 .txt" in caplog.text
    assert len(images("folder", folder, tmp_path / "some", "--include", "[0-4].jpg,*.png")) == 5
    flat = write_files(tmp_path / "flat", {f"{i}.jpg": data for i, data in enumerate(jpegs(5))} | {"a.txt": b"words"})
    samples = images("folder", flat, tmp_path / "unlabelled")
    assert {key: sample["jpg"] for key, sample in samples.items()} == {str(i): data for i, data in enumerate(jpegs(5))}
    assert not any("cls" in sample for sample in samples.values())
