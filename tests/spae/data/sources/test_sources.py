import collections
import os

import fsspec
import numpy as np
import pytest
from sklearn.datasets import load_digits

from spae.data.media import MediaError, decode_image
from spae.data.records import check_key
from spae.data.sources import Entry, SourceSettings
from spae.data.sources.digits import DIGIT_SPLITS, DigitsSource
from spae.data.sources.folder import FolderSource

LIMIT = 1 << 20


def test_the_splits_part_all_digits():
    keys = [entry.key for split in DIGIT_SPLITS for entry in DigitsSource(split, 0).entries()]
    assert len(keys) == len(set(keys)) == 1797


def test_the_splits_are_stratified_and_about_70_15_15():
    truth = collections.Counter(load_digits().target.tolist())
    for split, share in {"train": 0.7, "val": 0.15, "test": 0.15}.items():
        counts = collections.Counter(entry.label for entry in DigitsSource(split, 3).entries())
        assert all(abs(counts[label] - share * truth[label]) <= 1 for label in range(10))


def test_the_split_seed_alone_decides_the_split():
    one, same, other = (list(DigitsSource("val", seed).entries()) for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_digits_are_the_real_ones_upsampled():
    data = load_digits()
    source = DigitsSource("test", 0)
    assert [row.name for row in source.classes()][:3] == ["zero", "one", "two"]
    for entry in list(source.entries())[::60]:
        index = int(entry.path.rsplit("/", 1)[-1])
        pixels = decode_image(source.read(entry, LIMIT))
        assert pixels.shape == (32, 32, 3)
        assert entry.label == data.target[index]
        small = pixels[..., 0].reshape(8, 4, 8, 4).mean((1, 3)) / 255 * 16
        assert np.corrcoef(small.ravel(), data.images[index].ravel())[0, 1] > 0.98
        assert source.read(entry, LIMIT) == source.read(entry, LIMIT)


def test_digits_have_three_splits():
    with pytest.raises(ValueError, match="train, val, test"):
        DigitsSource("training", 0)


@pytest.fixture
def folder(tmp_path):
    for name in (
        "dog/b.jpg",
        "cat/a.jpg",
        "cat/deep/a.jpg",
        "cat/cat_7.JPEG",
        "cat/x.y z.png",
        ".git/config",
        "notes.txt",
    ):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "images" / "empty").mkdir()
    return tmp_path / "images"


def test_folder_names_are_classes_in_sorted_order(folder):
    assert [(row.label, row.name) for row in FolderSource(str(folder)).classes()] == [
        (0, "cat"),
        (1, "dog"),
        (2, "empty"),
    ]


def test_every_file_is_listed_once_with_its_label_or_its_problem(folder):
    entries = {entry.path: entry for entry in FolderSource(str(folder)).entries()}
    assert {path: (entry.label, entry.problem) for path, entry in entries.items()} == {
        "cat/a.jpg": (0, ""),
        "cat/cat_7.JPEG": (0, ""),
        "cat/deep/a.jpg": (0, ""),
        "cat/x.y z.png": (0, ""),
        "dog/b.jpg": (1, ""),
        ".git/config": (None, "no class folder"),
        "notes.txt": (None, "outside of the class folders"),
    }
    assert entries["cat/a.jpg"].key == "cat_a"
    assert entries["cat/deep/a.jpg"].key == "cat_deep_a"
    assert entries["cat/cat_7.JPEG"].key == "cat_7"
    assert all(check_key(entry.key) for entry in entries.values())
    assert entries["dog/b.jpg"].size == len("dog/b.jpg")


def test_reading_stops_at_the_limit_and_lost_files_are_media_errors(folder):
    source = FolderSource(str(folder))
    entry = next(entry for entry in source.entries() if entry.path == "dog/b.jpg")
    assert source.read(entry, LIMIT) == b"dog/b.jpg"
    assert source.read(entry, 3) == b"dog"
    os.remove(folder / "dog/b.jpg")
    with pytest.raises(MediaError, match="cannot be read: FileNotFoundError"):
        source.read(entry, LIMIT)


@pytest.mark.parametrize("path", ["dog/" + "x" * 300, "dog/b.jpg/c.jpg", "dog/\0.jpg", "dog/round"])
def test_a_path_that_can_be_none_is_a_media_error(folder, path):
    os.symlink("round", folder / "dog/round")
    with pytest.raises(MediaError, match="cannot be read"):
        FolderSource(str(folder)).read(Entry("key", path), LIMIT)


def test_links_devices_and_undecodable_names_do_no_harm(folder):
    os.symlink("a.jpg", folder / "cat/link.jpg")
    os.symlink("nowhere", folder / "cat/broken")
    os.symlink("..", folder / "cat/loop")
    os.symlink("dog", folder / "linked")
    os.mkfifo(folder / "cat/pipe")
    (folder / os.fsdecode(b"cat/\xff.jpg")).write_bytes(b"")
    source = FolderSource(str(folder))
    problems = {entry.path: entry.problem for entry in source.entries()}
    assert [row.name for row in source.classes()] == ["cat", "dog", "empty", "linked"]
    assert problems["cat/link.jpg"] == problems["linked/b.jpg"] == ""
    assert problems["cat/broken"] == "broken link"
    assert problems["cat/loop"] == "a linked folder inside a class"
    assert problems["cat/pipe"] == "not a regular file"
    assert problems["cat/\ufffd.jpg"] == "name is not UTF-8"


def test_a_store_gives_the_same_entries_as_the_disk(folder, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(f"{folder}/", f"/{tmp_path.name}/", recursive=True)
    local, store = FolderSource(str(folder)), FolderSource(f"memory://{tmp_path.name}")
    there = [entry for entry in local.entries() if entry.path]
    assert list(store.entries()) == there
    assert store.read(there[3], LIMIT) == local.read(there[3], LIMIT)


def test_unusable_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="--input"):
        SourceSettings(name="folder", url="", split="train").open()
    with pytest.raises(ValueError, match="no folder that can be listed"):
        FolderSource(str(tmp_path / "missing")).classes()
    with pytest.raises(ValueError, match="holds no class folders"):
        FolderSource(str(tmp_path)).classes()
    (tmp_path / "file.wav").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"no file that --include takes \(\*.jpg\)"):
        FolderSource(str(tmp_path), ("*.jpg",)).classes()


def test_what_no_pattern_takes_is_counted_and_no_input(folder, caplog):
    caplog.set_level("INFO")
    for number in range(3):
        (folder / "cat" / f"{number}.WAV").write_bytes(b"x")
    (folder / "dog" / "LICENSE").write_bytes(b"x")
    entries = list(FolderSource(str(folder), ("*.JPG", "cat/*.jpeg")).entries())
    assert [entry.path for entry in entries] == ["cat/a.jpg", "cat/cat_7.JPEG", "cat/deep/a.jpg", "dog/b.jpg"]
    (said,) = caplog.messages
    assert "7 files are no inputs, as --include takes none of their names: 3 .wav, 2 without" in said
    assert "1 .txt" in said
    assert "1 .png" in said


def test_every_file_is_an_input_or_counted(folder, caplog):
    caplog.set_level("INFO")
    everything = len(list(FolderSource(str(folder)).entries()))
    for patterns in (("*.jpg",), ("*.j*",), ("*.png", "*.txt"), ("*/deep/*",)):
        caplog.clear()
        taken = len(list(FolderSource(str(folder), patterns).entries()))
        assert f"{everything - taken} files are no inputs" in caplog.text


def test_a_folder_without_class_folders_is_one_of_images_without_labels(folder, tmp_path):
    flat = tmp_path / "flat"
    (folder / "cat").rename(flat)
    (flat / "deep/a.jpg").rename(flat / "b.jpg")
    (flat / "deep").rmdir()
    source = FolderSource(str(flat), ("*.jpg",))
    assert source.classes() == ()
    entries = list(source.entries())
    assert [(e.key, e.path, e.label, e.problem) for e in entries] == [
        ("a", "a.jpg", None, ""),
        ("b", "b.jpg", None, ""),
    ]
    assert source.read(entries[1], LIMIT) == b"cat/deep/a.jpg"


def test_names_with_the_marks_of_urls_are_names(tmp_path):
    names = ["simplecache::b.jpg", "a::zip:x.jpg", "c:d.jpg", "{e}*?.jpg", "100%25.jpg", "#1.jpg"]
    for name in names:
        (tmp_path / "one").mkdir(exist_ok=True)
        (tmp_path / "one" / name).write_bytes(name.encode())
    source = FolderSource(str(tmp_path))
    assert {entry.path: source.read(entry, LIMIT) for entry in source.entries()} == {
        f"one/{name}": name.encode() for name in names
    }


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"name": "folder", "annotations": "a.txt"}, "takes no --annotations"),
        ({"name": "list", "label_column": "x"}, "only parquet has"),
        ({"name": "list", "include": "*.jpg"}, "only folder does"),
        ({"name": "webdataset", "url": ""}, "--source webdataset needs --input"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        SourceSettings(**{"url": "x", "split": "train", **flags}).open()
