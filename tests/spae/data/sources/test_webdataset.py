import json
import os

import fsspec
import pytest
import webdataset

from spae.data.records import ClassName, save_classes
from tests.image_layouts import add_links, tar_bytes, write_files
from tests.spae.data.sources.labelled_tars import LIMIT, PICTURES, labelled, source


def captioned(first, count):
    """As img2dataset writes them."""
    for number in range(first, first + count):
        yield f"{number:09d}.jpg", PICTURES[number]
        yield f"{number:09d}.txt", f"a picture of {number}, é".encode()
        yield f"{number:09d}.json", json.dumps({"status": "success", "key": f"{number:09d}"}).encode()


def test_labels_and_bytes_are_those_that_webdataset_reads(tars):
    found = source(tars)
    assert found.classes() == tuple(ClassName(label, str(label)) for label in range(3))
    entries = list(found.entries())
    theirs = list(webdataset.WebDataset(sorted(map(str, tars.glob("*.tar"))), shardshuffle=False))
    assert [(e.key, e.label, found.read(e, LIMIT)) for e in entries] == [
        (sample["__key__"], int(sample["cls"]), sample["jpg"]) for sample in theirs
    ]
    assert entries[5].path == "00001.tar#000005.jpg"
    assert not any(entry.problem or entry.text for entry in entries)


def test_captions_need_no_labels(tmp_path):
    found = source(write_files(tmp_path, {"a.tar": tar_bytes(captioned(0, 3)), "b.tar": tar_bytes(captioned(0, 2))}))
    assert found.classes() == ()
    entries = list(found.entries())
    assert [(entry.key, entry.text, entry.label, entry.problem) for entry in entries] == [
        (f"{number:09d}", f"a picture of {number}, é", None, "") for number in (0, 1, 2, 0, 1)
    ]
    assert [found.read(entry, LIMIT) for entry in entries] == [PICTURES[n] for n in (0, 1, 2, 0, 1)]


@pytest.mark.parametrize("pattern", ["0000{0..1}.tar", "{00000,00001}.tar", "0000[01].tar", "0000?.tar", "00000.tar"])
def test_patterns_name_tars(tars, pattern):
    count = {"0000?.tar": 12, "00000.tar": 4}.get(pattern, 8)
    found = source(tars / pattern)
    entries = list(found.entries())
    assert len(entries) == count
    assert found.read(entries[-1], LIMIT) == PICTURES[count - 1]


def test_tars_of_a_store_are_read_by_range(tars):
    file_system = fsspec.filesystem("memory")
    file_system.put(str(tars), "/bucket/tars", recursive=True)
    found = source("memory://bucket/tars")
    assert [found.read(entry, LIMIT) for entry in found.entries()] == list(PICTURES)
    file_system.rm("/bucket", recursive=True)


def test_names_of_the_classes_are_taken_from_a_file(tars, tmp_path):
    names = write_files(tmp_path, {"names.txt": b"zero\neins\n"}) / "names.txt"
    save_classes(str(tmp_path), (ClassName(0, "zero"), ClassName(1, "eins")))
    for annotations in (names, tmp_path / "classes.parquet"):
        found = source(tars, annotations)
        assert [row.name for row in found.classes()] == ["zero", "eins"]
        assert {entry.problem for entry in found.entries() if int(entry.key) % 3 == 2} == {"unknown label"}
        assert {entry.problem for entry in found.entries() if int(entry.key) % 3 < 2} == {""}


def test_what_is_no_sample_is_one_problem_each(tmp_path):
    sound = dict(labelled(0, 1))
    members = [
        *sound.items(),
        ("bad.cls", b"cat"),
        ("bad.jpg", b"x"),
        ("long.cls", b"1" * 20_000),
        ("long.jpg", b"x"),
        ("none.jpg", b"x"),
        ("text.cls", b"0"),
        ("text.txt", b"only words"),
        ("two.cls", b"0"),
        ("two.jpg", b"x"),
        ("two.png", b"x"),
        ("same.cls", b"0"),
        ("same.jpg", b"x"),
        ("same.jpg", b"y"),
        ("000000.png", b"again"),
        ("README", b"words"),
        ("../up.cls", b"0"),
        ("../up.jpg", b"x"),
    ]
    path = write_files(tmp_path, {"a.tar": tar_bytes(members)}) / "a.tar"
    add_links(path)
    write_files(tmp_path, {"b.tar": path.read_bytes()[:5000], "c.tar": b"no tar" * 500})
    names = write_files(tmp_path, {"names.txt": b"zero\none\n"}) / "names.txt"
    entries = list(source(tmp_path, names, broken_containers="skip").entries())
    assert [(entry.path, entry.problem) for entry in entries if entry.path.startswith("a.tar")] == [
        ("a.tar#000000.jpg", ""),
        ("a.tar#bad.jpg", "unknown label"),
        ("a.tar#long.jpg", "a text of over 16384 bytes"),
        ("a.tar#none.jpg", "no label"),
        ("a.tar#text", "no image member"),
        ("a.tar#two.jpg", "two images in a sample"),
        ("a.tar#same.jpg", "two members of one suffix"),
        ("a.tar#000000.png", "a key that came before"),
        ("a.tar#README", "a name without suffix"),
        ("a.tar#../up.jpg", "unsafe member name"),
        *[(f"a.tar#{kind}.jpg", "not a regular file") for kind in "shc"],
    ]
    assert [(e.key, e.problem) for e in entries if e.path.startswith(("b.tar", "c.tar"))][-2:] == [
        ("b", "truncated tar"),
        ("c", "broken tar"),
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing", "names no .tar file"), ("*.zip", "names no .tar file"), ("{a}.parquet", "names no")],
)
def test_inputs_that_name_no_tars_are_refused(tars, name, message):
    with pytest.raises(ValueError, match=message):
        source(tars / name).classes()
    with pytest.raises(ValueError, match=r"does not end with \.tar"):
        source(tars / "0*").classes()


def test_names_with_the_marks_of_urls_are_names(tmp_path):
    names = ["simplecache::a", "b#c", "{e}*", "100%25"]
    write_files(tmp_path, {f"{name}.tar": tar_bytes(labelled(2 * i, 2)) for i, name in enumerate(names)})
    found = source(tmp_path)
    entries = list(found.entries())
    assert [found.read(entry, LIMIT) for entry in sorted(entries, key=lambda entry: entry.key)] == list(PICTURES[:8])


def test_a_tar_whose_name_is_not_utf8_is_one_problem(tars):
    (tars / "00002.tar").rename(tars / os.fsdecode(b"\xff.tar"))
    *sound, lost = source(tars, broken_containers="skip").entries()
    assert [entry.problem for entry in sound] == [""] * 8
    assert (lost.path, lost.problem) == ("\ufffd.tar#\ufffd", "name is not UTF-8")


def test_a_lost_tar_that_braces_name_is_noticed(tars):
    (tars / "00001.tar").unlink()
    found = source(tars / "{00000..00002}.tar", broken_containers="skip")
    assert {entry.path: entry.problem for entry in found.entries() if entry.problem} == {
        "00001.tar#00001": "cannot be read"
    }
    with pytest.raises(ValueError, match=r"1 containers .*: 00001.tar .cannot be read: 0 members"):
        list(source(tars / "{00000..00002}.tar").entries())


def test_a_folder_with_the_marks_of_patterns_is_a_folder(tars):
    folder = tars.rename(tars.with_name("[a]{b,c}*"))
    assert len(list(source(folder).entries())) == 12
    assert len(list(source(folder / "00001.tar").entries())) == 4


def test_joined_tars_are_read_to_their_end(tmp_path):
    one, two = tar_bytes(labelled(0, 4)), tar_bytes(labelled(4, 4))
    end = len(one.rstrip(b"\0")) // 512 * 512 + 512
    forms = {"a": one + two, "b": one[: end + 512] + two, "c": one + bytes(512 * 400) + two}
    for name, data in forms.items():
        found = source(write_files(tmp_path / name, {"a.tar": data}))
        assert [found.read(entry, LIMIT) for entry in found.entries()] == list(PICTURES[:8])
    again = source(write_files(tmp_path / "again", {"a.tar": one + one}))
    assert [(entry.key, entry.problem) for entry in again.entries()] == [(f"{n:06d}", "") for n in (0, 1, 2, 3) * 2]
    cut = write_files(tmp_path / "cut", {"a.tar": one + two[:9000]})
    with pytest.raises(ValueError, match=r"a.tar .truncated tar: 1[0-9] members"):
        list(source(cut).entries())
    words = write_files(tmp_path / "words", {"a.tar": one + b"words" * 999})
    with pytest.raises(ValueError, match=r"a.tar .broken tar: 12 members, 20,480 of 25,475 bytes were read"):
        list(source(words).entries())


def test_labels_behind_a_first_tar_without_are_no_secret(tmp_path):
    files = {"0.tar": tar_bytes(captioned(0, 2)), "1.tar": tar_bytes(labelled(2, 4))}
    folder = write_files(tmp_path / "tars", files)
    with pytest.raises(ValueError, match=r"1.tar has labels .cls. and the first tar .* has none; give --annotations"):
        list(source(folder).entries())
    names = write_files(tmp_path, {"names.txt": b"zero\none\ntwo\n"}) / "names.txt"
    assert [entry.problem for entry in source(folder, names).entries()] == ["no label"] * 2 + [""] * 4


def test_what_others_say_of_a_sample_is_kept_and_the_rest_counted(tmp_path, caplog):
    caplog.set_level("INFO")
    large = json.dumps({"exif": "x" * 20_000}).encode()
    members = [*captioned(0, 2), ("9.jpg", PICTURES[9]), ("9.json", large), ("9.npy", b"x"), ("9.seg.png", b"x")]
    entries = list(source(write_files(tmp_path, {"a.tar": tar_bytes(members)})).entries())
    assert [json.loads(entry.original)["key"] for entry in entries[:2]] == ["000000000", "000000001"]
    assert (entries[2].original, entries[2].problem) == ("", "")
    said = "members that no sample takes over: "
    assert all(f"1 {kind}" in caplog.text.split(said)[1] for kind in ("json of over 16384 bytes", "npy", "seg.png"))
