"""What tars hold: the name and the range of bytes of every member; plain ones are not unpacked for that.

Tars come from anywhere: names are never used as paths, sizes and headers are bounded, a cut or broken tar gives what
stands before the damage and one member that says what is wrong. A file may be several tars, one after the other.
"""

import contextlib
import io
import itertools
import posixpath
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from spae.data.media import MediaError
from spae.data.sources.files import NOT_TEXT, UNREADABLE, Place, is_text, readable
from spae.data.sources.unpacked import is_compressed, open_unpacked

BLOCK_BYTES = 8192
"""What one read of a remote tar fetches: several headers where members are small, few pixels where they are large."""
MAX_HEADER_BYTES = 1 << 20
"""A longer PAX header or file name is an attack or damage."""
ZERO_BYTES = 1 << 16
"""What one read takes of the zeros behind a tar: usually they are 10 KB, in a file of fixed size more."""
THREADS = 8
"""Tars that are listed at once; on a store each waits for its own requests."""
TRUNCATED, BROKEN, COMPRESSED = "truncated tar", "broken tar", "compressed tar: unpack it first"

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
    part: int = 0
    """Which of the tars that the file consists of holds it."""


@contextlib.contextmanager
def open_tar(tar: TarRange, *, unpack: bool = False) -> Iterator["TarReader"]:
    """A tar, opened for one pass over its members; one that cannot be opened has this as its problem.

    With `unpack` a compressed file is unpacked to local disk; without, that it is compressed is its problem.
    """
    with contextlib.ExitStack() as stack:
        try:
            file_system, path = tar.file.locate()
            opened = file_system.open(path, "rb", block_size=BLOCK_BYTES, cache_type="readahead")
            reader = TarReader(stack.enter_context(opened), tar.begin, tar.size)
            if reader.is_compressed and unpack:
                reader = TarReader(*stack.enter_context(open_unpacked(tar.file)))
                reader.unpacked = reader.size
            elif reader.is_compressed:
                reader.problem = COMPRESSED
        except UNREADABLE:
            reader = TarReader(io.BytesIO(), 0, None, "cannot be read")
        except MediaError as error:
            reader = TarReader(io.BytesIO(), 0, None, error.reason)
        yield reader


class TarReader:
    """One pass over the members of an open tar, during which small ones can be read.

    Attributes:
        damage: after the pass why the tar cannot be read whole, and how much of it was read; empty for a sound one.
        size: bytes of the tar.
        unpacked: bytes that it takes on local disk; 0 for a plain one.
    """

    def __init__(self, file: BinaryIO, begin: int, size: int | None, problem: str = "", behind: str = "") -> None:
        self.file, self.begin, self.problem, self.problem_behind = file, begin, problem, behind
        try:
            end = file.seek(0, io.SEEK_END)
        except ValueError:  # fsspec's for a server that does not tell it
            end, self.problem = begin, "a file of unknown length"
        self.end = end if size is None else min(end, begin + size)
        self.size = max(self.end - begin, 0)
        self.damage, self.unpacked = "", 0
        self._count = self._position = 0

    @property
    def is_compressed(self) -> bool:
        """Whether this is no tar but what a compressor made of one."""
        return not self.problem and is_compressed(self._block(6))

    def __iter__(self) -> Iterator[TarMember]:
        """All members but folders, in order; last one without a name where the tar is cut, broken or compressed."""
        try:
            if problem := self.problem or self._first_problem():
                yield self._damage(problem)
            else:
                yield from self._members()
            if self.problem_behind and not self.damage:
                yield self._damage(self.problem_behind)
        except OSError:  # the store's, not the tar's
            raise
        except Exception:  # tarfile raises many types on hostile headers, UnicodeError and RecursionError among them
            yield self._damage(BROKEN)

    def read(self, member: TarMember, limit: int) -> bytes:
        """A member's bytes, cut after `limit`; no request of its own where they were fetched with a header."""
        self.file.seek(member.offset)
        return self.file.read(min(member.size, limit))

    def _members(self) -> Iterator[TarMember]:
        for part in itertools.count():
            yield from self._part(part)
            if self.damage or not self._find_next():
                return

    def _part(self, part: int) -> Iterator[TarMember]:
        """The members of the tar that begins at the position, which is moved to its end."""
        begin = self.begin + self._position
        with tarfile.open(fileobj=_Window(self.file, begin, self.end), mode="r:") as tar:
            position = 0
            while (header := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else memory grows with the tar
                if header.size < 0 or tar.offset <= position:
                    raise tarfile.ReadError(f"{header.size} bytes")
                position = tar.offset
                member = self._member(header, begin, part)
                cut = begin + position > self.end
                if not header.isdir():
                    self._count += not cut
                    yield member
                if cut:
                    damage = self._damage(TRUNCATED)
                    if member.problem != TRUNCATED or header.isdir():
                        yield damage
                    return
                self._position = begin + position - self.begin
            self._position = begin + tar.offset - self.begin
            if problem := self._end_problem():
                yield self._damage(problem)

    def _member(self, header: tarfile.TarInfo, begin: int, part: int) -> TarMember:
        offset, problem = begin + header.offset_data, _problem(header)
        if not problem and offset + header.size > self.end:
            problem = TRUNCATED
        size = max(min(header.size, self.end - offset), 0)
        return TarMember(readable(posixpath.normpath(header.name)), offset, size, problem, part)

    def _damage(self, problem: str) -> TarMember:
        self.damage = f"{problem}: {self._count} members, {self._position:,} of {self.size:,} bytes were read"
        return TarMember("", self.begin, 0, problem)

    def _first_problem(self) -> str:
        return TRUNCATED if self.end - self.begin < tarfile.BLOCKSIZE else ""

    def _end_problem(self) -> str:
        """What is wrong where tarfile finds no further header and stops: a block of zeros should stand there."""
        block = self._block(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE:
            return TRUNCATED
        return BROKEN if any(block) else ""

    def _find_next(self) -> bool:
        """Move the position behind the zeros that end a tar; whether anything follows, be it no tar."""
        while block := self._block(ZERO_BYTES):
            zeros = len(block) - len(block.lstrip(b"\0"))
            self._position += zeros - zeros % tarfile.BLOCKSIZE if zeros < len(block) else zeros
            if zeros < len(block):
                return True
        return False

    def _block(self, size: int) -> bytes:
        """So many bytes from the position on, or as many as there are."""
        self.file.seek(self.begin + self._position)
        return self.file.read(max(min(size, self.end - self.begin - self._position), 0))


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
