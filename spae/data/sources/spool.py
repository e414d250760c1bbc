"""Blocks of byte strings on local disk: what can only be unpacked as a whole is kept while single ones are wanted."""

import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from threading import Lock
from typing import BinaryIO

from spae.data.media import MediaError
from spae.data.scratch import ScratchFolder

SPOOL_BYTES = 32 << 30
"""The most that one process keeps; half of what is free on the disk where that is less."""


@dataclass(frozen=True)
class _Block:
    path: str
    ends: tuple[int, ...]
    """Where each string ends in the file."""
    missing: frozenset[int]
    """Numbers of the strings that are None."""


class Spool:
    """The blocks used last, in a temporary folder that goes when the process ends."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._start()

    def read(
        self, key: Hashable, number: int, unpack: Callable[[], Iterable[bytes | None]], limit: int
    ) -> bytes | None:
        """String `number` of a block, cut after `limit`; `unpack` gives the strings where the block is not kept.

        MediaError where a block is too large for the disk, or is shorter than that.
        """
        with self.lock:
            block = self._block(key, unpack)
            if number >= len(block.ends):
                raise MediaError("cannot be read", f"row {number} of {len(block.ends)}")
            if number in block.missing:
                return None
            begin = block.ends[number - 1] if number else 0
            with open(block.path, "rb") as file:
                file.seek(begin)
                return file.read(min(block.ends[number] - begin, limit))

    def open(self, key: Hashable, unpack: Callable[[], Iterable[bytes | None]]) -> tuple[BinaryIO, tuple[int, ...]]:
        """A whole block as a file, and where each of its strings ends in it; MediaError as in `read`.

        The file can be read for as long as it is open, also where the block is no longer kept.
        """
        with self.lock:
            block = self._block(key, unpack)
            return open(block.path, "rb"), block.ends

    def room(self) -> int:
        """The most bytes that can be kept on this disk."""
        folder = self.folder.path if self.folder else tempfile.gettempdir()
        return min(SPOOL_BYTES, (shutil.disk_usage(folder).free + self.bytes) // 2)

    def _block(self, key: Hashable, unpack: Callable[[], Iterable[bytes | None]]) -> _Block:
        if self.process != os.getpid():  # after a fork the folder is the parent's
            self._start()
        if key not in self.blocks:
            self.blocks[key] = self._written(unpack())
        self.blocks.move_to_end(key)
        return self.blocks[key]

    def _start(self) -> None:
        self.process = os.getpid()
        self.blocks: OrderedDict[Hashable, _Block] = OrderedDict()
        self.bytes = 0
        self.folder: ScratchFolder | None = None

    def _written(self, strings: Iterable[bytes | None]) -> _Block:
        self.folder = self.folder or ScratchFolder("spool")
        room = self.room()
        handle, path = tempfile.mkstemp(dir=self.folder.path)
        ends, missing, end = list[int](), set[int](), 0
        try:
            with open(handle, "wb") as file:
                for number, data in enumerate(strings):
                    if data is None:
                        missing.add(number)
                    end += file.write(data or b"")
                    ends.append(end)
                    if end > room:
                        raise MediaError("too large to unpack", f"over {room} bytes, all that may be kept")
        except BaseException:
            os.remove(path)
            raise
        self.bytes += end
        while self.bytes > room:
            _, old = self.blocks.popitem(last=False)
            self.bytes -= old.ends[-1] if old.ends else 0
            os.remove(old.path)
        return _Block(path, tuple(ends), frozenset(missing))
