import hashlib
import logging
import os
import re
import shutil
import tarfile

import pytest

from spae.data.publishing import publish
from spae.data.records import check_key
from spae.data.sources import SourceSettings, archives
from spae.data.sources.kinetics import KineticsSource
from tests.videos import KINETICS_HEADER, kinetics


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return kinetics(tmp_path_factory.mktemp("kinetics"), frames=2)


def rows_of(tmp_path, *lines, header=KINETICS_HEADER, split="train"):
    """The entries of a table over an empty folder."""
    (tmp_path / "clips").mkdir(exist_ok=True)
    (tmp_path / "table.csv").write_text(header + "".join(f"{line}\n" for line in lines))
    return list(KineticsSource(str(tmp_path / "clips"), str(tmp_path / "table.csv"), split).entries())


def test_every_row_of_the_split_is_an_input(release, caplog):
    caplog.set_level(logging.INFO)
    source = KineticsSource(str(release[0]), str(release[1]), "train")
    assert [(row.label, row.name) for row in source.classes()] == [(0, "riding a bike"), (1, "tap dancing")]
    entries = list(source.entries())
    assert [entry.problem for entry in entries] == [""] * 6 + ["missing clip"]
    assert [entry.label for entry in entries] == [0, 1, 0, 1, 0, 1, 0]
    assert entries[1].key == "-a_00000001_000010_000020"
    assert entries[1].path == "tap_dancing/-a_00000001_000010_000020.mp4"
    assert all(entry.size == len(source.read(entry, 1 << 20)) for entry in entries[:6])
    assert "1 of 7 annotated clips are missing" in caplog.text
    assert "--max-error-share" in caplog.text


def test_flat_folders_and_bare_names_serve_too(release, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    expected = [
        (entry.key, entry.label, entry.problem) for entry in KineticsSource(*map(str, release), "train").entries()
    ]
    for path in release[0].rglob("*.mp4"):
        shutil.copy(path, tmp_path / path.name.replace("_000020_000030.mp4", ".MP4"))
    shutil.copy(path, tmp_path / "stranger.mp4")
    (tmp_path / "notes.txt").write_text("about these clips")
    source = KineticsSource(str(tmp_path), str(release[1]), "train")
    assert [(entry.key, entry.label, entry.problem) for entry in source.entries()] == expected
    assert "1 files in" in caplog.text


def test_a_clip_whose_path_is_not_utf8_is_a_problem(release, tmp_path):
    shutil.copytree(release[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "tap_dancing").rename(tmp_path / os.fsdecode(b"\xff"))
    entries = list(KineticsSource(str(tmp_path), str(release[1]), "train").entries())
    assert [entry.problem for entry in entries] == ["", "name is not UTF-8"] * 3 + ["missing clip"]
    assert entries[1].path.startswith("\ufffd/")


def test_a_store_gives_the_same_entries_as_the_disk(release):
    url = "memory://kinetics"
    for path in (*release[0].rglob("*.mp4"), release[1]):
        publish(f"{url}/{path.relative_to(release[1].parent)}", path)
    source = KineticsSource(f"{url}/clips", f"{url}/train.csv", "train")
    assert list(source.entries()) == list(KineticsSource(*map(str, release), "train").entries())
    first = next(source.entries())
    assert source.read(first, 10) == (release[0] / first.path).read_bytes()[:10]


def test_labels_are_the_same_in_every_split(release):
    settings = SourceSettings(name="kinetics", url=str(release[0]), split="val", annotations=str(release[1]))
    (entry,) = settings.open().entries()
    assert (entry.label, entry.problem) == (1, "missing clip")


def test_other_releases_name_columns_and_splits_otherwise(tmp_path):
    header = "label,video_id,start,end,split\n"
    (entry,) = rows_of(tmp_path, "juggling,abc,1.0,11.0,validate", header=header, split="val")
    assert entry.key == "abc_000001_000011"
    (entry,) = rows_of(tmp_path, "juggling,abc,1,11", header="label,youtube_id,time_start,time_end\n", split="test")
    assert entry.problem == "missing clip"


def test_malformed_rows_are_inputs_with_a_problem(tmp_path):
    entries = rows_of(
        tmp_path,
        "juggling,_ok,1,11,train,0",
        "juggling,../../etc/passwd,1,11,train,0",
        "juggling,abc,later,11,train,0",
        "juggling,abc,nan,11,train,0",
        "juggling,abc,12,11,train,0",
        ",abc,1,11,train,0",
        "juggling",
        "juggling,_ok,1,11,train,0",
    )
    assert [entry.problem for entry in entries] == ["missing clip", *["bad annotation"] * 6, "duplicate annotation"]
    assert len({check_key(entry.key) for entry in entries}) == len({entry.path for entry in entries}) == 8


def test_unusable_tables_and_folders_are_named(tmp_path, release):
    with pytest.raises(ValueError, match=r"needed are label, youtube_id or video_id"):
        rows_of(tmp_path, "a,b", header="name,url\n")
    with pytest.raises(ValueError, match="no split 'train'; it has test, val"):
        rows_of(tmp_path, "a,b,1,2,val,0", "a,b,1,2,test,0")
    with pytest.raises(ValueError, match="is no table of annotations, after line 2: unexpected end of data"):
        rows_of(tmp_path, "a,b,1,2,train,0", '"open,b,1,2,train,0', "c,d,1,2,train,0")
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match="is no table of annotations"):
        KineticsSource(str(tmp_path), str(tmp_path / "table.csv"), "train").classes()
    with pytest.raises(ValueError, match="does not exist; --annotations"):
        KineticsSource(str(tmp_path), str(tmp_path / "none.csv"), "train").classes()
    with pytest.raises(ValueError, match="no folder that can be listed"):
        list(KineticsSource(str(tmp_path / "none"), str(release[1]), "train").entries())
    with pytest.raises(ValueError, match="needs --annotations"):
        SourceSettings(name="kinetics", url=str(tmp_path), split="train").open()


def packed(release, folder, suffix, mode):
    """The release as two tars, in each the clips of a class; stored once without class folders."""
    for number, name in enumerate(("riding_a_bike", "tap_dancing")):
        with tarfile.open(folder / f"part_{number}{suffix}", mode) as tar:
            for path in sorted((release[0] / name).iterdir()):
                tar.add(path, path.name if number else f"./{name}/{path.name}")


@pytest.mark.parametrize(("suffix", "mode"), [(".tar.gz", "w:gz"), (".tar", "w")])
def test_releases_as_they_are_published_give_what_their_files_give(release, tmp_path, suffix, mode):
    packed(release, tmp_path, suffix, mode)
    source, unpacked = (KineticsSource(str(place), str(release[1]), "train") for place in (tmp_path, release[0]))
    entries, expected = list(source.entries()), list(unpacked.entries())
    for entry, other in zip(entries, expected, strict=True):
        assert (entry.key, entry.label, entry.size, entry.problem) == (
            other.key,
            other.label,
            other.size,
            other.problem,
        )
        if not entry.problem:
            assert source.read(entry, 1 << 20) == unpacked.read(other, 1 << 20)
            assert source.read(entry, 10) == unpacked.read(other, 10)
    assert re.fullmatch(rf"part_1{re.escape(suffix)}#\d+#-a_00000001_000010_000020\.mp4", entries[1].path)


def test_the_list_of_clips_in_use_is_hashed_wherever_they_lie(release, tmp_path, caplog):
    caplog.set_level(logging.INFO)

    def said(place):
        caplog.clear()
        list(KineticsSource(str(place), str(release[1]), "train").entries())
        return re.findall(r"train: (\d) clips in use; sha256 of their sorted list \(key, label\): (\w+)", caplog.text)

    packed(release, tmp_path, ".tar.gz", "w:gz")
    assert said(tmp_path) == said(release[0])
    lines = [f"-a_{n:08d}_{10 * n:06d}_{10 * n + 10:06d} {('riding a bike', 'tap dancing')[n % 2]}\n" for n in range(6)]
    assert said(tmp_path) == [("6", hashlib.sha256("".join(lines).encode()).hexdigest())]
    (tmp_path / "part_1.tar.gz").unlink()
    assert said(tmp_path) == [("3", hashlib.sha256("".join(lines[::2]).encode()).hexdigest())]


def test_a_release_that_is_broken_ends_the_run_unless_what_can_be_read_is_enough(release, tmp_path):
    packed(release, tmp_path, ".tar.gz", "w:gz")
    cut = tmp_path / "part_1.tar.gz"
    cut.write_bytes(cut.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=r"1 containers cannot be read whole: part_1.tar.gz \("):
        list(KineticsSource(str(tmp_path), str(release[1]), "train").entries())
    entries = list(KineticsSource(str(tmp_path), str(release[1]), "train", "skip").entries())
    problems = [entry.problem for entry in entries]
    assert problems[::2] == [""] * 3 + ["missing clip"]
    assert "missing clip" in problems[1::2]


def test_releases_that_have_no_room_unpacked_are_refused_with_the_remedy(release, tmp_path, monkeypatch):
    packed(release, tmp_path, ".tar.gz", "w:gz")
    monkeypatch.setattr(archives, "room", lambda: 5_000)
    with pytest.raises(ValueError, match=r"more than a process can keep in .*; make plain tars of them \(gunzip\)"):
        list(KineticsSource(str(tmp_path), str(release[1]), "train").entries())
