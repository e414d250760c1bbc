"""Shards of a store on a machine's own disk, shared by its processes, so that later epochs ask the store for nothing.

A shard is fetched once, whole, verified by the sha256 of its index and named by it, and appears by a rename. Locks,
which end with their process, keep two processes from fetching the same shard and one that is read from being evicted.
"""

import contextlib
import errno
import hashlib
import logging
import os
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import fsspec

from spae.data.publishing import DISK_ERRNOS, TEMPORARY_MARK
from spae.data.records import ShardInfo
from spae.data.tar import MEND

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

_BLOCK = 1 << 20


@dataclass(frozen=True)
class ShardCache:
    """A folder of fetched shards.

    Those longest unread make room for others. Where those being read leave none, or the disk is full, a shard is not
    kept and the caller reads the store.
    """

    folder: str
    most: int
    """Bytes that it may hold."""

    @contextlib.contextmanager
    def opened(self, shard: ShardInfo) -> Iterator[IO[bytes] | None]:
        """The shard's tar, open at its beginning, or None where there is no room for it.

        ValueError where the store gives other bytes than the index tells.
        """
        place = Path(self.folder, f"{shard.sha256}.tar")
        while True:
            with _locked(Path(self.folder, "locks", shard.sha256[:2])):  # whoever fetches it is waited for
                if not place.exists() and not self._fetch(shard, place):
                    file = None
                    break
                file = _held(place)
            if file:
                break
        if file is None:
            yield None
            return
        with file:
            yield file

    def _fetch(self, shard: ShardInfo, place: Path) -> bool:
        try:
            with self._room(shard.bytes) as temporary:
                if temporary is None:
                    return False
                _copy(shard, temporary)
                os.rename(temporary.name, place)
        except OSError as error:
            if error.errno not in DISK_ERRNOS:
                raise
            logger.warning("%s is full (%s); %s is read from the store", self.folder, error, shard.url)
            return False
        return True

    @contextlib.contextmanager
    def _room(self, wanted: int) -> Iterator[IO[bytes] | None]:
        """A locked file of so many bytes, which counts as held; None where others leave no room for it."""
        with _locked(Path(self.folder, "locks", "room")):
            held = {path: path.stat() for path in Path(self.folder).iterdir() if path.is_file()}
            total = sum(status.st_size for status in held.values())
            for path in sorted(held, key=lambda path: held[path].st_mtime):
                if total + wanted > self.most and wanted <= self.most and _evicted(path):
                    total -= held[path].st_size
            if total + wanted > self.most:
                logger.info("no room for %d bytes in %s, which holds %d of %d", wanted, self.folder, total, self.most)
                file = None
            else:
                file = open(Path(self.folder, f"{uuid.uuid4().hex}{TEMPORARY_MARK}fetch"), "wb")  # noqa: SIM115
                fcntl.flock(file, fcntl.LOCK_EX)
                file.truncate(wanted)
        if file is None:
            yield None
            return
        with file:
            try:
                yield file
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(file.name)


def _copy(shard: ShardInfo, target: IO[bytes]) -> None:
    digest = hashlib.sha256()
    with fsspec.open(shard.url, "rb") as source:
        while block := source.read(_BLOCK):
            digest.update(block)
            target.write(block)
    target.flush()
    if digest.hexdigest() != shard.sha256:
        raise ValueError(f"{shard.url} has the sha256 {digest.hexdigest()}, its index tells {shard.sha256}; {MEND}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _held(place: Path) -> IO[bytes] | None:
    """The file, which is not evicted while it is open; None where it has just been."""
    try:
        file = open(place, "rb")  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_SH)
        os.utime(place)
    except FileNotFoundError:
        return None
    return file


def _evicted(path: Path) -> bool:
    """Whether a file that nobody reads or writes is gone."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            return False
        os.remove(path)
    return True
