"""What --input names: shards, tars of others, folders and lists of images."""

import os
import shutil

import fsspec
import pytest

from spae.data.records import load_index
from spae.data.sources import IMAGE_PATTERNS, find_shards
from tests.image_layouts import img2dataset, jpegs, tar_bytes, write_files
from tests.tiny_shards import samples, write_split

PHOTOS = {"b.JPG": 0, "a/y.jpeg": 1, "a/x y.webp": 2, "z.png": 3}


def find(*urls, files=3):
    return find_shards([str(url) for url in urls], files, IMAGE_PATTERNS)


@pytest.fixture
def photos(tmp_path):
    pictures = jpegs(len(PHOTOS))
    files = {name: pictures[number] for name, number in PHOTOS.items()}
    return write_files(tmp_path / "photos", {**files, "notes.txt": b"none"})


def test_a_folder_of_images_makes_shards_of_sorted_files(photos):
    first, last = find(photos)
    assert (first.name, last.name) == ("photos-000000", "photos-000001")
    assert [entry.key for shard in (first, last) for entry in shard.entries] == sorted(PHOTOS)
    assert (first.samples, last.samples) == (3, 1)
    assert first.bytes == sum((photos / entry.path).stat().st_size for entry in first.entries)
    assert find(photos) == [first, last]


def test_identity_follows_what_the_files_are(photos):
    def identities():
        return [shard.sha256 for shard in find(photos)]

    before = identities()
    os.utime(photos / "z.png", (1, 1))
    touched = identities()
    assert (touched[0] == before[0], touched[1] == before[1]) == (True, False)
    os.rename(photos / "a" / "y.jpeg", photos / "a" / "w.jpeg")
    assert identities()[0] != before[0]


def test_identity_does_not_follow_where_the_folder_is(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "elsewhere" / "photos")  # which keeps the times
    assert [shard.sha256 for shard in find(tmp_path / "elsewhere" / "photos")] == [s.sha256 for s in find(photos)]


def test_a_split_its_index_its_root_and_a_pattern_name_the_same_shards(tmp_path):
    split = write_split(tmp_path / "root" / "test", [samples(2, seed) for seed in range(3)])
    other = write_split(tmp_path / "root" / "val", [samples(2, 9)], "val")
    ours = list(load_index(split).shards)
    assert find(split) == find(f"{split}/index.json") == find(f"{split}/test-{{000000..000002}}.tar") == ours
    assert find(f"{split}/*.tar") == find(f"{split}/test-000000.tar", f"{split}/test-00000[12].tar") == ours
    assert find(tmp_path / "root") == [*ours, *load_index(other).shards]
    assert find(tmp_path) == find(tmp_path / "root")


def test_tars_of_others_are_named_by_their_paths_and_not_opened(tmp_path):
    files = {"part/00000.tar": b"no tar", "00000.tar": b"", "00000.parquet": b"", "a.b.tar": b""}
    write_files(tmp_path / "tars", files)
    shards = find(tmp_path / "tars")
    assert [shard.name for shard in shards[::2]] == ["00000", "part_00000"]
    assert shards[1].name.startswith("a-b-")
    assert {(shard.kind, shard.samples) for shard in shards} == {("tar", None)}
    assert [shard.bytes for shard in shards] == [0, 0, 6]


def test_two_tables_of_one_name_are_an_error_that_names_both(tmp_path):
    write_files(tmp_path, {"a/00000.tar": b"", "b/00000.tar": b""})
    with pytest.raises(ValueError, match=r"called 00000: of .*/a/00000.tar and of .*/b/00000.tar"):
        find(tmp_path / "a", tmp_path / "b")
    write_files(tmp_path, {"a/vocabulary.tar": b""})
    with pytest.raises(ValueError, match=r"vocabulary.tar gives a table called vocabulary"):
        find(tmp_path / "a")


def test_a_list_gives_its_lines_with_labels_and_a_line_twice_is_a_problem(photos):
    (photos / "list.csv").write_text("path,label\nb.JPG,dog\nz.png,cat\nb.JPG,dog\nmissing.png,cat\n")
    (shard,) = find(photos / "list.csv", files=9)
    assert (shard.name, shard.kind, shard.samples) == ("list-000000", "list", 4)
    assert [(entry.key, entry.label) for entry in shard.entries] == [
        *(("b.JPG", 1), ("z.png", 0), ("b.JPG", 1), ("missing.png", 0))
    ]
    assert [entry.problem for entry in shard.entries] == ["", "", "a path that came before", ""]
    shutil.copy(photos / "z.png", photos / "missing.png")
    assert find(photos / "list.csv", files=9)[0].sha256 != shard.sha256


def test_what_names_nothing_or_two_kinds_is_refused(photos, tmp_path):
    with pytest.raises(ValueError, match="names no shards, tars or images; give"):
        find(tmp_path / "nowhere")
    write_files(photos, {"00000.tar": tar_bytes(img2dataset(2))})
    with pytest.raises(ValueError, match=r"holds tars \(00000.tar\) and images"):
        find(photos)
    assert [shard.name for shard in find(photos / "*.tar")] == ["00000"]
    write_files(tmp_path, {"list.txt": b""})
    with pytest.raises(ValueError, match="is an empty list"):
        find(tmp_path / "list.txt")


def test_inputs_live_on_any_file_system():
    file_system = fsspec.filesystem("memory")
    for number, data in enumerate(jpegs(2)):
        file_system.pipe_file(f"/finding/photos/{number}.jpg", data)
    (shard,) = find("memory://finding/photos")
    assert [media for _, media in shard.read(1 << 20)] == list(jpegs(2))
    file_system.pipe_file("/finding/tars/00000.tar", tar_bytes(img2dataset(3)))
    (shard,) = find("memory://finding/tars")
    assert (shard.samples, shard.counted().samples) == (None, None), "counting it would fetch it"
    assert [(entry.key, media[:1]) for entry, media in shard.read(1 << 20)] == [
        *(("000000000", b"\xff"), ("000000001", b"\xff"), ("000000002", b"R"))
    ]
