"""What uncompressed tars hold, without unpacking them: the name and the range of bytes of every member.

Tars come from anywhere: names are never used as paths, sizes and headers are bounded, a cut or broken tar gives what
stands before the damage and one member that says what is wrong.
"""

import io
import posixpath
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from spae.data.sources.files import NOT_TEXT, Place, is_text, readable

BLOCK_BYTES = 8192
"""What one read of a remote tar fetches: several headers where members are small, few pixels where they are large."""
MAX_HEADER_BYTES = 1 << 20
"""A longer PAX header or file name is an attack or damage."""
THREADS = 8
"""Tars that are listed at once; on a store each waits for its own requests."""
TRUNCATED, COMPRESSED = "truncated tar", "compressed tar: unpack it first"
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class TarRange:
    """A tar: a whole file, or the member of another tar that lies in these bytes."""

    file: Place
    name: str
    """How the source calls it."""
    begin: int = 0
    size: int | None = None
    """None: to the end of the file."""


@dataclass(frozen=True)
class TarMember:
    """One member; offset and size are the range of its bytes, as far as there are any, in the file with the tar."""

    name: str
    """Empty where the problem is the tar's own."""
    offset: int
    size: int
    problem: str = ""


@contextmanager
def open_tar(tar: TarRange) -> Iterator["TarReader"]:
    """A tar, opened for one pass over its members; one that cannot be opened has this as its problem."""
    file_system, path = tar.file.locate()
    try:
        file = file_system.open(path, "rb", block_size=BLOCK_BYTES, cache_type="readahead")
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        yield TarReader(io.BytesIO(), 0, None, "cannot be read")
        return
    with file:
        yield TarReader(file, tar.begin, tar.size)


class TarReader:
    """One pass over the members of an open tar, during which small ones can be read."""

    def __init__(self, file: BinaryIO, begin: int, size: int | None, problem: str = "") -> None:
        self.file, self.begin, self.problem = file, begin, problem
        self.end = file.seek(0, io.SEEK_END)
        if size is not None:
            self.end = min(self.end, begin + size)

    def __iter__(self) -> Iterator[TarMember]:
        """All members but folders, in order; last one without a name where the tar is cut, broken or compressed."""
        try:
            if problem := self.problem or self._first_problem():
                yield self._damage(problem)
            else:
                yield from self._members()
        except OSError:  # the store's, not the tar's
            raise
        except Exception:  # tarfile raises many types on hostile headers, UnicodeError and RecursionError among them
            yield self._damage("broken tar")

    def read(self, member: TarMember, limit: int) -> bytes:
        """A member's bytes, cut after `limit`; no request of its own where they were fetched with a header."""
        self.file.seek(member.offset)
        return self.file.read(min(member.size, limit))

    def _members(self) -> Iterator[TarMember]:
        position = 0
        with tarfile.open(fileobj=_Window(self.file, self.begin, self.end), mode="r:") as tar:
            while (header := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else memory grows with the tar
                if header.size < 0 or tar.offset <= position:
                    raise tarfile.ReadError(f"{header.size} bytes")
                position = tar.offset
                member = self._member(header)
                if not header.isdir():
                    yield member
                if self.begin + position > self.end:
                    if member.problem != TRUNCATED or header.isdir():
                        yield self._damage(TRUNCATED)
                    return
            if problem := self._end_problem(tar.offset):
                yield self._damage(problem)

    def _member(self, header: tarfile.TarInfo) -> TarMember:
        offset, problem = self.begin + header.offset_data, _problem(header)
        if not problem and offset + header.size > self.end:
            problem = TRUNCATED
        size = max(min(header.size, self.end - offset), 0)
        return TarMember(readable(posixpath.normpath(header.name)), offset, size, problem)

    def _damage(self, problem: str) -> TarMember:
        return TarMember("", self.begin, 0, problem)

    def _first_problem(self) -> str:
        self.file.seek(self.begin)
        if self.file.read(6).startswith(_COMPRESSED):
            return COMPRESSED
        return TRUNCATED if self.end - self.begin < tarfile.BLOCKSIZE else ""

    def _end_problem(self, offset: int) -> str:
        """What is wrong where tarfile finds no further header and stops: a block of zeros should stand there."""
        self.file.seek(self.begin + offset)
        block = self.file.read(max(min(tarfile.BLOCKSIZE, self.end - self.begin - offset), 0))
        if len(block) < tarfile.BLOCKSIZE:
            return TRUNCATED
        return "broken tar" if any(block) else ""


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`function` of each item, several at once, in the items' order; a few results at a time are held."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _problem(member: tarfile.TarInfo) -> str:
    if not is_text(member.name):
        return NOT_TEXT
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "unsafe member name"
    if not member.isreg():
        return "not a regular file"
    return "sparse member" if member.issparse() else ""


class _Window(io.RawIOBase):
    """A range of an open file as a file of its own that refuses to read much at once: headers are small."""

    def __init__(self, file: BinaryIO, begin: int, end: int) -> None:
        self.file, self.begin, self.size = file, begin, end - begin
        self.position = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < 0:
            raise tarfile.ReadError(f"no seek to {offset}")
        self.position = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.file.seek(self.begin + self.position)
        data = self.file.read(max(min(size, self.size - self.position), 0))
        self.position += len(data)
        return data
