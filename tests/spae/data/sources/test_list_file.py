import csv
import io

import fsspec
import pytest

from spae.data.media import MediaError
from spae.data.sources import SourceSettings
from tests.image_layouts import jpegs, write_files

LIMIT = 1 << 24
PICTURES = jpegs(3)
FILES = {f"images/{i}.jpg": data for i, data in enumerate(PICTURES)}


def source(folder, name, text, annotations=""):
    write_files(folder, {**FILES, name: text if isinstance(text, bytes) else text.encode()})
    return SourceSettings(name="list", url=str(folder / name), split="train", annotations=str(annotations)).open()


LISTS = {
    "a.csv": "images/0.jpg,fox\nimages/1.jpg,cat\nimages/2.jpg,fox\n",
    "b.csv": '\ufeffurl,label\r\n"images/0.jpg",fox\r\n\r\nimages/1.jpg,cat\r\nimages/2.jpg,"fox"\r\n',
    "c.tsv": "label\tcaption\tpath\nfox\t\timages/0.jpg\ncat\t\timages/1.jpg\nfox\t\timages/2.jpg\n",
    "d.txt": "images/0.jpg\tfox\nimages/1.jpg\tcat\nimages/2.jpg\tfox\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_every_form_of_a_list_says_the_same(tmp_path, name):
    found = source(tmp_path, name, LISTS[name])
    assert [(row.label, row.name) for row in found.classes()] == [(0, "cat"), (1, "fox")]
    entries = list(found.entries())
    assert [(e.key, e.path, e.label, e.problem) for e in entries] == [
        (f"images_{i}", f"images/{i}.jpg", label, "") for i, label in enumerate((1, 0, 1))
    ]
    assert [found.read(entry, LIMIT) for entry in entries] == list(PICTURES)


def test_label_numbers_stay_what_they_are(tmp_path):
    found = source(tmp_path, "val.txt", "images/0.jpg 65\nimages/1.jpg 970\nimages/2.jpg 65\n")
    assert [(row.label, row.name) for row in found.classes()] == [(65, "65"), (970, "970")]
    assert [entry.label for entry in found.entries()] == [65, 970, 65]
    names = write_files(tmp_path, {"names.txt": "\n".join(f"name {i}" for i in range(66)).encode()}) / "names.txt"
    found = source(tmp_path, "val.txt", "images/0.jpg 65\nimages/1.jpg 970\nimages/2.jpg 65\n", names)
    assert [entry.problem for entry in found.entries()] == ["", "unknown label", ""]


def test_captions_and_paths_alone_need_no_labels(tmp_path):
    found = source(tmp_path, "a.csv", 'url,caption\nimages/0.jpg,"red, round"\nimages/1.jpg,\n')
    assert found.classes() == ()
    assert [(e.label, e.text, e.problem) for e in found.entries()] == [(None, "red, round", ""), (None, "", "")]
    found = source(tmp_path, "b.txt", "images/0.jpg\nimages/a photo.jpg\n")
    assert [(e.path, e.problem) for e in found.entries()] == [("images/0.jpg", ""), ("images/a photo.jpg", "")]
    found = source(tmp_path, "c.csv", "images/0.jpg,cat,a cat\nimages/1.jpg,,\n")
    assert [(e.label, e.text, e.problem) for e in found.entries()] == [(0, "a cat", ""), (None, "", "no label")]


def test_only_plain_protocols_are_opened(tmp_path):
    paths = [
        f"file://{tmp_path}/images/0.jpg",
        str(tmp_path / "images/1.jpg"),
        "simplecache::file:///etc/passwd",
        "zip://a.jpg::images/0.jpg",
        "ssh://host/a.jpg",
        "github://org:repo@/a.jpg",
        "gs://bucket/a.jpg",
        "",
    ]
    found = source(tmp_path, "a.csv", "\n".join(f'"{path}"' for path in paths))
    entries = list(found.entries())
    refused = "protocol not allowed"
    assert [entry.problem for entry in entries] == ["", "", refused, refused, refused, refused, "", "no path"]
    assert [found.read(entry, LIMIT) for entry in entries[:2]] == list(PICTURES[:2])
    with pytest.raises(MediaError, match=refused):
        found.read(entries[2], LIMIT)


def test_a_remote_list_names_no_local_files(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/list.csv", b"/etc/passwd\nfile:///etc/passwd\n0.jpg\nmemory://bucket/0.jpg\n")
    memory.pipe("/bucket/0.jpg", PICTURES[0])
    found = SourceSettings(name="list", url="memory://bucket/list.csv", split="train").open()
    entries = list(found.entries())
    assert [entry.problem for entry in entries] == ["local path in a remote list"] * 2 + ["", ""]
    assert [found.read(entry, LIMIT) for entry in entries[2:]] == [PICTURES[0]] * 2
    memory.rm("/bucket", recursive=True)


def test_broken_lines_are_problems_and_lost_files_media_errors(tmp_path):
    lines = b"images/0.jpg,1\n\xff.jpg,1\nimages/gone.jpg,1\nimages/1.jpg\n\nimages/2.jpg,1,2\n"
    found = source(tmp_path, "a.csv", lines)
    entries = list(found.entries())
    other = "another number of columns"
    assert [entry.problem for entry in entries] == ["", "name is not UTF-8", "", other, other]
    assert [entry.path for entry in entries[3:]] == ["a.csv:4", "a.csv:6"]
    with pytest.raises(MediaError, match="cannot be read"):
        found.read(entries[2], LIMIT)
    with pytest.raises(ValueError, match="is no file; give the list"):
        SourceSettings(name="list", url=str(tmp_path / "none.csv"), split="train").open().classes()


CAPTIONS = ["a cat", '"Twas the night', 'a 12" vinyl', '"Best day ever" said John', "", '"', '""']


@pytest.mark.parametrize("name", ["a.tsv", "a.txt"])
@pytest.mark.parametrize("header", ["", "path\tlabel\tcaption\n"])
def test_marks_in_captions_of_tabbed_lists_are_text(tmp_path, name, header):
    captions = CAPTIONS * 3
    lines = [f"images/{i % 3}.jpg\t{i}\t{caption}\n" for i, caption in enumerate(captions)]
    entries = list(source(tmp_path, name, header + "".join(lines)).entries())
    assert [(entry.label, entry.text, entry.problem) for entry in entries] == [
        (label, caption, "") for label, caption in enumerate(captions)
    ]


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t")])
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
def test_what_the_csv_module_quotes_is_read_as_it_was(tmp_path, name, delimiter, quoting):
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter=delimiter, quoting=quoting)
    writer.writerow(["path", "caption"])
    writer.writerows([f"images/{i % 3}.jpg", caption] for i, caption in enumerate(CAPTIONS))
    assert [entry.text for entry in source(tmp_path, name, sink.getvalue()).entries()] == CAPTIONS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a.jpg,"he\nsaid"\nb.jpg,"never closed\nc.jpg,x\n', r"line 3 .to 4. of .* is no row of a .csv"),
        ('a.jpg,x\nb.jpg,"two" words\n', r"line 2 .to 2. of"),
        ("a.jpg,x\nb.jpg," + '"' + "x" * 140_000, r"line 2 .to 2. of"),
        ("img,lab\na.jpg,x\n", "first line of .*'img,lab', .* names no column of paths: call it one of url, path"),
        ("img_url;label\na.jpg;x\n", "first line of"),
        ("path,label\na.jpg,01\nb.jpg,1\n", "the labels '01' and '1' would be one class"),
        ("a.jpg,1\nb.jpg,2\nc.jpg,002", "the labels '2' and '002' would be one class"),
    ],
)
def test_lists_that_would_lose_lines_or_classes_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        list(source(tmp_path, "list.csv", text).entries())


def test_columns_that_are_left_out_are_named(tmp_path, caplog):
    caplog.set_level("INFO")
    found = source(tmp_path, "a.csv", " Path ,lab,Caption\nimages/0.jpg,cat,words\n")
    assert [(entry.path, entry.label, entry.text) for entry in found.entries()] == [("images/0.jpg", None, "words")]
    assert "left out are the columns lab" in caplog.text


def test_numbers_with_zeros_in_front_are_numbers_where_they_are_so_throughout(tmp_path):
    found = source(tmp_path, "a.csv", "images/0.jpg,01\nimages/1.jpg,12\nimages/2.jpg,01\n")
    assert [row.label for row in found.classes()] == [1, 12]
