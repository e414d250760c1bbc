"""Who works on a folder of token tables: several tokenizing runs at once, or one run that changes finished tables.

A run keeps a file `{id}.lock` in the folder, writes it anew every half minute, and takes it away in the end. That of a
killed run stays, and binds nobody once its process is gone, or (seen from other machines) once it has not been written
for `STALE`, by the store's own clock.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta

import fsspec

from jobs.retries import persistently
from spae.data.publishing import delete, join, list_files, publish, read_bytes

STALE = timedelta(minutes=5)
_SUFFIX = ".lock"
_INTERVAL = 30.0


class BusyError(RuntimeError):
    """Another run works on the folder."""


@contextlib.contextmanager
def working_on(folder: str, command: str, *, alone: bool) -> Iterator[None]:
    """Hold a folder while the block runs, alone or beside others that do not need it for themselves.

    Two runs that begin in the same moment may refuse each other; at no time do both go on.

    Args:
        folder: of token tables.
        command: what others are told.
        alone: whether no other run may work on it.

    Raises:
        BusyError: another run is in the way; it is named, with the remedy.
    """
    url = join(folder, f"{uuid.uuid4().hex}{_SUFFIX}")
    owner = {"command": command, "alone": alone, "machine": _machine(), "process": os.getpid()}
    content, ended = json.dumps(owner).encode(), threading.Event()

    def stay() -> None:
        while not ended.wait(_INTERVAL):
            with contextlib.suppress(Exception):  # whatever a store raises: the next time counts
                publish(url, content)

    persistently("taking the folder", lambda: publish(url, content))
    keeper = threading.Thread(target=stay, daemon=True)
    keeper.start()
    try:
        if other := persistently("looking who works on the folder", lambda: _in_the_way(folder, url, alone=alone)):
            raise BusyError(other)
        yield
    finally:
        ended.set()
        keeper.join()
        persistently("leaving the folder", lambda: delete(url))


def _in_the_way(folder: str, own: str, *, alone: bool) -> str:
    """Which other run must end first, "" where there is none; what killed ones left is deleted."""
    urls, now = [join(folder, name) for name in list_files(folder) if name.endswith(_SUFFIX)], _modified(own)
    for url in urls:
        if url == own:
            continue
        try:
            age, owner = now - _modified(url), json.loads(read_bytes(url) or b"{}")
        except FileNotFoundError:  # it has ended
            continue
        if age > STALE or _is_gone(owner):
            delete(url)
        elif alone or owner.get("alone", True):
            return (
                f"{owner.get('command', 'another run')} works on {folder} (process {owner.get('process')} on "
                f"{owner.get('machine')}); wait until it has ended. If it was killed on another machine, that shows "
                f"within {STALE.seconds // 60} minutes, or delete {url}"
            )
    return ""


def _modified(url: str) -> datetime:
    file_system, path = fsspec.url_to_fs(url)
    written: datetime = file_system.modified(path)
    return written


def _machine() -> str:
    """This machine; of containers that have its name their own processes."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _is_gone(owner: dict[str, object]) -> bool:
    """Whether the process is seen from here to have ended."""
    process = owner.get("process")
    if owner.get("machine") != _machine() or not isinstance(process, int) or sys.platform == "win32":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        pass
    return False
