import bz2
import gzip
import http.server
import lzma
import shutil
import threading

import pyarrow as pa
import pytest

from spae.data.sources import spool, unpacked
from tests.image_layouts import tar_bytes
from tests.spae.data.sources.labelled_tars import LIMIT, PICTURES, labelled, source

PACKERS = {
    "tar.gz": gzip.compress,
    "tgz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    "tar": gzip.compress,
}


@pytest.mark.parametrize("suffix", PACKERS)
def test_compressed_tars_give_what_plain_ones_give(tars, suffix):
    plain = source(tars)
    expected = [(entry.key, entry.label, plain.read(entry, LIMIT)) for entry in plain.entries()]
    packed = shutil.copytree(tars, tars.with_name("packed"))
    (packed / "00001.tar").unlink()
    (packed / f"00001.{suffix}").write_bytes(PACKERS[suffix]((tars / "00001.tar").read_bytes()))
    found = source(packed)
    entries = list(found.entries())
    assert [(entry.key, entry.label, found.read(entry, LIMIT)) for entry in entries] == expected
    assert found.read(entries[5], 9) == PICTURES[5][:9]


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.bz2", "tar.xz", "tar.zst"])
def test_what_stands_before_a_cut_of_a_compressed_tar_can_be_taken(tars, suffix, monkeypatch):
    monkeypatch.setattr(unpacked, "PIECE_BYTES", 64)
    data = PACKERS[suffix]((tars / "00001.tar").read_bytes())
    (tars / "00001.tar").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"1 containers cannot be read whole: 00001.tar .truncated tar"):
        list(source(tars).entries())
    found = source(tars, broken_containers="skip")
    entries = list(found.entries())
    assert [entry.problem for entry in entries].count("truncated tar") == 1
    assert 8 <= sum(not entry.problem for entry in entries) < 12
    for entry in entries:
        assert entry.problem or found.read(entry, LIMIT) == PICTURES[int(entry.key)]


def test_damage_behind_the_last_member_of_a_compressed_tar_is_seen(tars):
    data = bytearray(gzip.compress((tars / "00001.tar").read_bytes()))
    data[-8] ^= 1  # its checksum
    (tars / "00001.tar").write_bytes(data)
    with pytest.raises(ValueError, match=r"00001.tar .broken compression: 12 members"):
        list(source(tars).entries())


def test_compressed_tars_without_room_are_refused_with_the_remedy(tars, monkeypatch):
    size = (tars / "00000.tar").stat().st_size
    for path in tars.glob("*.tar"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    monkeypatch.setattr(unpacked, "_spool", spool.Spool())
    monkeypatch.setattr(spool, "SPOOL_BYTES", 2 * size)
    with pytest.raises(ValueError, match="unpack them first"):
        list(source(tars).entries())
    monkeypatch.setattr(unpacked, "_spool", spool.Spool())
    monkeypatch.setattr(spool, "SPOOL_BYTES", 10)
    with pytest.raises(ValueError, match="too large to unpack"):
        list(source(tars).entries())


class NoLength(http.server.BaseHTTPRequestHandler):
    """A server that tells no length and takes no ranges."""

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(tar_bytes(labelled(0, 2)))


def test_a_tar_of_unknown_length_fails():
    with http.server.ThreadingHTTPServer(("localhost", 0), NoLength) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ValueError, match=r"1 containers .*a.tar .a file of unknown length"):
            list(source(f"http://localhost:{server.server_port}/a.tar").entries())
        server.shutdown()
