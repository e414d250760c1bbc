import random
import tarfile

import fsspec
import pytest

from spae.data.media import MediaError
from spae.data.records import check_key
from spae.data.sources.files import Place, read_part
from spae.data.sources.tars import TarRange, map_in_order, open_tar
from spae.data.sources.webdataset import WebDatasetSource
from tests.image_layouts import add_links, jpegs, tar_bytes

PICTURES = [(f"{i}.jpg", data) for i, data in enumerate(jpegs(6))]


def members(url, **position):
    with open_tar(TarRange(Place(str(url)), "", **position)) as reader:
        return [(member.name, member.problem, member) for member in reader]


def problems(url):
    return [(name, problem) for name, problem, _ in members(url)]


def written(tmp_path, data):
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_ranges_of_the_file(tmp_path, form):
    long = [(f"{'deep/' * 40}{'x' * 120}.jpg", PICTURES[0][1])] if form != tarfile.USTAR_FORMAT else []
    path = written(tmp_path, tar_bytes([*PICTURES, *long], format=form))
    found = {name: read_part(Place(str(path)), m.offset, m.size, 1 << 20) for name, _, m in members(path)}
    assert found == dict([*PICTURES, *long])


def test_a_tar_inside_of_a_tar_needs_no_unpacking(tmp_path):
    inner = tar_bytes(PICTURES)
    path = written(tmp_path, tar_bytes([("first", b"x" * 1000), ("inner.tar", inner), ("last", b"y")]))
    outer = {name: member for name, _, member in members(path)}["inner.tar"]
    found = members(path, begin=outer.offset, size=outer.size)
    assert {name: read_part(Place(str(path)), m.offset, m.size, 1 << 20) for name, _, m in found} == dict(PICTURES)


def test_names_that_lead_elsewhere_and_links_are_named(tmp_path):
    names = ["../up.jpg", "/etc/passwd", "a/../../b.jpg", "./fine.jpg", "a/./b.jpg"]
    path = written(tmp_path, tar_bytes([(name, b"x") for name in names]))
    add_links(path)
    assert problems(path) == [
        ("../up.jpg", "unsafe member name"),
        ("/etc/passwd", "unsafe member name"),
        ("../b.jpg", "unsafe member name"),
        ("fine.jpg", ""),
        ("a/b.jpg", ""),
        *[(f"{kind}.jpg", "not a regular file") for kind in "shc"],
    ]


@pytest.mark.parametrize("share", [0.1, 0.35, 0.5, 0.77, 0.97])
def test_what_stands_before_a_cut_is_used(tmp_path, share):
    data = tar_bytes(PICTURES)
    path = written(tmp_path, data[: int(len(data.rstrip(b"\0")) * share)])
    found = members(path)
    assert [problem for _, problem, _ in found if problem] == ["truncated tar"]
    for name, problem, member in found:
        assert problem or read_part(Place(str(path)), member.offset, member.size, 1 << 20) == dict(PICTURES)[name]


def test_every_cut_is_seen(tmp_path):
    """At every block: in a header, at the border of members, in the padding."""
    data = tar_bytes([("a", b"x" * 700), ("b", b""), ("c", b"y" * 512)])
    for size in range(256, 3072 + 256, 256):
        assert [problem for _, problem in problems(written(tmp_path, data[:size])) if problem] == ["truncated tar"], (
            size
        )
    assert [problem for _, problem in problems(written(tmp_path, data[: 3072 + 512])) if problem] == []


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "truncated tar"),
        (b"\0" * 10240, ""),
        (b"words" * 1000, "broken tar"),
        (b"\x1f\x8b\x08" + b"z" * 1000, "compressed tar: unpack it first"),
    ],
)
def test_a_file_that_is_no_tar_is_one_problem(tmp_path, data, problem):
    assert problems(written(tmp_path, data)) == ([("", problem)] if problem else [])


def test_a_broken_header_ends_the_tar_with_one_problem(tmp_path):
    data = bytearray(tar_bytes(PICTURES))
    at = data.index(b"3.jpg")
    data[at + 150] ^= 0xFF
    assert problems(written(tmp_path, bytes(data))) == [*[(f"{i}.jpg", "") for i in range(3)], ("", "broken tar")]


def header(name, size_field, kind=tarfile.REGTYPE):
    """A header with any size field and a right checksum."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size_field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("first", "problem"),
    [
        (header("big", b"77777777777\0"), "truncated tar"),
        (header("huge", b"\x80" + (1 << 80).to_bytes(11, "big")), "truncated tar"),
        (header("negative", b"\xff" * 10 + b"\x02\x00"), "broken tar"),
        (header("x", b"77777777777\0", tarfile.XHDTYPE), "broken tar"),
        (header("x", b"77777777777\0", tarfile.GNUTYPE_LONGNAME), "broken tar"),
        (header("x", b"00000000000\0", tarfile.GNUTYPE_LONGNAME) * 3000, "broken tar"),
    ],
)
def test_absurd_sizes_cost_neither_memory_nor_time(tmp_path, first, problem):
    found = members(written(tmp_path, first + b"\0" * 1024))
    assert [row[1] for row in found] == [problem]
    assert all(0 <= member.size <= 1 << 20 for _, _, member in found)


def test_sparse_members_are_named(tmp_path):
    block = bytearray(header("hole", b"00000000000\0", tarfile.GNUTYPE_SPARSE))
    assert [problem for _, problem in problems(written(tmp_path, bytes(block) + b"\0" * 1024))] == ["sparse member"]


def test_mutated_tars_never_crash(tmp_path):
    generator = random.Random(0)
    whole = tar_bytes([(f"{i}.cls", b"%d" % i) for i in range(20)], format=tarfile.PAX_FORMAT)
    for attempt in range(1000):
        data = bytearray(whole)
        for _ in range(generator.randrange(1, 20)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        path = written(tmp_path, bytes(data[: generator.randrange(len(data))] if generator.random() < 0.3 else data))
        for _, problem, member in members(path):
            assert 0 <= member.offset <= path.stat().st_size
            assert member.offset + member.size <= path.stat().st_size
            assert problem or read_part(Place(str(path)), member.offset, member.size, 1 << 20) is not None
        for entry in WebDatasetSource(str(path), broken_containers="skip").entries() if attempt % 5 == 0 else ():
            check_key(entry.key)
            entry.path.encode()


def test_listing_fetches_headers_and_not_pictures(monkeypatch):
    """A remote tar, simulated by the memory file system's file behind fsspec's own block cache."""
    small = [("json", b'{"key": 1}'), ("txt", b"words" * 20)]
    samples = [[(f"{i}.jpg", bytes(200_000)), *[(f"{i}.{suffix}", x) for suffix, x in small]] for i in range(50)]
    data = tar_bytes(member for sample in samples for member in sample)
    fetched = []

    class Remote(fsspec.spec.AbstractBufferedFile):
        def _fetch_range(self, start, end):
            fetched.append(end - start)
            return data[start:end]

    file_system = fsspec.filesystem("memory")
    monkeypatch.setattr(
        type(file_system),
        "_open",
        lambda self, path, mode="rb", **options: Remote(self, path, mode, size=len(data), **options),
    )
    with open_tar(TarRange(Place("memory://remote.tar"), "")) as reader:
        texts = [reader.read(member, 1000) for member in reader if member.name.endswith("txt")]
    assert texts == [b"words" * 20] * 50
    assert len(fetched) <= 50 + 3
    assert sum(fetched) < 0.05 * len(data)


def test_lost_bytes_are_media_errors(tmp_path):
    path = written(tmp_path, b"0123456789")
    assert read_part(Place(str(path)), 2, 4, 100) == b"2345"
    assert read_part(Place(str(path)), 2, 4, 3) == b"234"
    assert read_part(Place(str(path)), 2, None, 100) == b"23456789"
    for url, begin, size in ((path, 8, 4), (tmp_path / "gone", 0, None)):
        with pytest.raises(MediaError, match="cannot be read"):
            read_part(Place(str(url)), begin, size, 100)


def test_results_keep_their_order_and_work_starts_as_it_is_wanted():
    started = []

    def double(number):
        started.append(number)
        return 2 * number

    results = map_in_order(double, range(1000))
    assert next(results) == 0
    assert len(started) < 30
    assert list(results) == [2 * number for number in range(1, 1000)]


def test_small_members_are_read_during_the_pass(tmp_path):
    path = written(tmp_path, tar_bytes([("a.cls", b"7"), ("b.txt", b"words " * 10)]))
    with open_tar(TarRange(Place(str(path)), "")) as reader:
        assert [reader.read(member, 12) for member in reader] == [b"7", b"words words "]
