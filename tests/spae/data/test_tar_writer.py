import hashlib
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spae.data.tar_writer import TarWriter

NAMES = st.text("abcXYZ019-_.", min_size=1, max_size=100)


def by_tarfile(members):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uname, member.gname = len(data), 0o444, "spae", "spae"
            tar.addfile(member, io.BytesIO(data))
    return sink.getvalue()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(NAMES, st.binary(max_size=2_000)), max_size=8), st.integers(0, 2_000_000))
def test_bytes_are_those_of_tarfile(members, large):
    members = [*members, ("large.jpg", bytes(large))]
    sink = io.BytesIO()
    writer = TarWriter(sink)
    for name, data in members:
        writer.add(name, data)
    writer.close()
    assert sink.getvalue() == by_tarfile(members)
    assert writer.size == len(sink.getvalue())
    assert writer.digest.digest() == hashlib.sha256(sink.getvalue()).digest()


@pytest.mark.parametrize("name", ["x" * 101, "é.jpg"])
def test_names_that_no_header_holds_are_refused(name):
    with pytest.raises(ValueError, match=r"100|ascii"):
        TarWriter(io.BytesIO()).add(name, b"")
