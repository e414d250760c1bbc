"""Compressed tars, unpacked to local disk once a process: none of their members can be read alone."""

import bz2
import functools
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa

from spae.data.media import MediaError
from spae.data.sources.files import UNREADABLE, Place, read_part
from spae.data.sources.spool import Spool

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
PIECE_BYTES = 1 << 18
"""What is unpacked at once."""
_OPENERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": lambda file: pa.CompressedInputStream(pa.PythonFile(file), "zstd"),
}
"""By what a file begins with, whatever it is called."""
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException, gzip.BadGzipFile)


def is_compressed(begin: bytes) -> bool:
    """Whether a file is compressed, by its first six bytes."""
    return begin.startswith(tuple(_OPENERS))


@contextmanager
def open_unpacked(place: Place) -> Iterator[tuple[BinaryIO, int, int, str, str]]:
    """What a compressed file holds, as a local file, begin, size, '' and what is wrong behind its bytes: a TarReader's.

    MediaError where it cannot be kept on the disk.
    """
    file, ends = _spool.open(place, functools.partial(_pieces, place))
    with file:
        size = ends[-2] if ends[1:] else 0
        file.seek(size)
        problem = file.read().decode()
        yield file, 0, size, "", problem


def read_packed(place: Place, begin: int, size: int, limit: int) -> bytes:
    """`size` bytes of what a file holds, compressed or not, cut after `limit`; MediaError where they are lost."""
    try:
        if not _is_packed(place):
            return read_part(place, begin, size, limit)
        file, _ = _spool.open(place, functools.partial(_pieces, place))
        with file:
            file.seek(begin)
            return file.read(min(size, limit))
    except UNREADABLE as error:
        raise MediaError("cannot be read", type(error).__name__) from error


@functools.lru_cache(maxsize=1 << 16)
def _is_packed(place: Place) -> bool:
    file_system, path = place.locate()
    return is_compressed(bytes(file_system.cat_file(path, start=0, end=6)))


def room() -> int:
    """The most bytes that this process can keep unpacked."""
    return _spool.room()


_spool = Spool()


def _pieces(place: Place) -> Iterator[bytes]:
    """What the file holds, and last what is wrong behind that; empty where it is whole."""
    file_system, path = place.locate()
    with file_system.open(path, "rb") as packed:
        begin = packed.read(6)
        packed.seek(0)
        problem = ""
        with next(opener for mark, opener in _OPENERS.items() if begin.startswith(mark))(packed) as stream:
            try:
                while piece := stream.read1(PIECE_BYTES):  # read would lose what stands before an error
                    yield piece
            except _DAMAGE:
                problem = "broken compression"
            except OSError as error:
                if type(error) is not OSError or error.errno is not None:
                    raise  # the store's; those of bz2 and Arrow have no number
                problem = "broken compression"
        yield problem.encode()
