"""Local folders for what a process needs while it runs, which no kill leaves behind for ever."""

import contextlib
import functools
import os
import shutil
import sys
import tempfile
import weakref
from pathlib import Path

if sys.platform != "win32":
    import fcntl

PREFIX = "spae-"
_LOCK = "lock"


class ScratchFolder:
    """An empty folder in the temporary one that goes when it is closed or the process ends.

    Where the process is killed it goes when the next one makes such a folder. A lock, which ends with its process,
    tells the folders of the dead from those of the living, in other containers on this machine too.

    Attributes:
        path: the folder.
    """

    def __init__(self, purpose: str) -> None:
        _sweep(tempfile.gettempdir())
        whole = tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-")
        self._remove = weakref.finalize(self, _remove, whole, _locked(whole), os.getpid())
        self.path = os.path.join(whole, "content")
        os.mkdir(self.path)

    def __enter__(self) -> str:
        return self.path

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder."""
        self._remove()


def _locked(folder: str) -> int | None:
    """Hold the folder's lock as long as this process lives, or the file descriptor."""
    if sys.platform == "win32":
        return None
    unnamed = os.path.join(folder, "lock-to-be")
    descriptor = os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.rename(unnamed, os.path.join(folder, _LOCK))  # at no time has it its name and nobody who holds it
    return descriptor


def _remove(folder: str, lock: int | None, process: int) -> None:
    if os.getpid() == process:  # a fork's folder is its parent's
        shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        os.close(lock)


@functools.cache
def _sweep(temporary: str) -> None:
    """Remove the folders whose lock nobody holds, once a process."""
    if sys.platform == "win32":
        return
    for lock in Path(temporary).glob(f"{PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError), open(lock, "rb") as file:  # held, another user's, or gone meanwhile
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
