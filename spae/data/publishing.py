"""Files that appear whole or not at all, on any file system that fsspec opens.

Local file systems get a temporary name beside the target, then a rename. Object stores have no rename, but a finished
upload is atomic there: a local temporary file is uploaded once. File systems are opened on use, never kept: those of
object stores do not survive a fork.
"""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import get_protocol

from spae.data.scratch import ScratchFolder

DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a write says without the name of its file."""
TEMPORARY_MARK = ".tmp-"
"""What the name of an unfinished local file holds; such a file may be deleted when nothing is running."""


@contextlib.contextmanager
def publishing(url: str) -> Iterator[BinaryIO]:
    """A new binary file that stands at `url` once the block has ended well, and nowhere if the block raises."""
    file_system, path = fsspec.url_to_fs(url)
    if not isinstance(file_system, LocalFileSystem):
        with ScratchFolder("upload") as folder:
            temporary = os.path.join(folder, "file")
            with _whole_file(temporary) as file:
                yield file
            file_system.put_file(temporary, path)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}{TEMPORARY_MARK}{uuid.uuid4().hex}"
    try:
        with _whole_file(temporary) as file:
            yield file
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


@contextlib.contextmanager
def _whole_file(path: str) -> Iterator[BinaryIO]:
    """A new file that is on the disk when the block ends; OSError with its name where the disk is full."""
    try:
        with open(path, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a crash of the machine can leave the new name with old or no content
    except OSError as error:
        if error.errno not in DISK_ERRNOS or error.filename:
            raise
        raise OSError(error.errno, error.strerror, path) from error


def publish(url: str, data: bytes | Path) -> None:
    """Put bytes, or the content of a local file, at `url`; what stood there is replaced in one step."""
    file_system, path = fsspec.url_to_fs(url)
    if isinstance(file_system, LocalFileSystem):
        with publishing(url) as target:
            if isinstance(data, bytes):
                target.write(data)
            else:
                with open(data, "rb") as source:
                    shutil.copyfileobj(source, target)
    elif isinstance(data, bytes):
        file_system.pipe_file(path, data)
    else:
        file_system.put_file(str(data), path)


def check_writable(folder: str) -> None:
    """Write and delete a small file, so that an unwritable folder is named before hours of listing; PermissionError."""
    url = join(folder, f"writable{TEMPORARY_MARK}{uuid.uuid4().hex}")
    try:
        publish(url, b"")
        delete(url)
    except Exception as error:  # stores tell of it by exceptions of many libraries
        message = (
            f"cannot write to {folder} ({error or repr(error)}); give another --output, or the rights to write there"
        )
        raise PermissionError(message) from error


def read_bytes(url: str) -> bytes | None:
    """The content at `url`, None where nothing stands."""
    file_system, path = fsspec.url_to_fs(url)
    try:
        return bytes(file_system.cat_file(path))
    except (FileNotFoundError, IsADirectoryError):
        return None


def delete(url: str) -> None:
    """Remove the file at `url`, if one stands there."""
    file_system, path = fsspec.url_to_fs(url)
    with contextlib.suppress(FileNotFoundError):
        file_system.rm_file(path)


def list_files(url: str) -> dict[str, int]:
    """Name and size of the files directly in a folder, sorted by name; none where the folder does not exist."""
    file_system, path = fsspec.url_to_fs(url)
    file_system.invalidate_cache(path)  # a cached listing would hide what other processes wrote
    try:
        rows = file_system.ls(path, detail=True)
    except FileNotFoundError:
        return {}
    return {
        row["name"].rsplit("/", 1)[-1]: row["size"]
        for row in sorted(rows, key=lambda row: row["name"])
        if row["type"] == "file"
    }


def join(url: str, *names: str) -> str:
    """A URL below another; a name that is absolute or a URL itself stands alone."""
    for name in names:
        url = name if "://" in name or name.startswith("/") else f"{url.rstrip('/')}/{name}"
    return url


def is_local(url: str) -> bool:
    """Whether this place is on this machine's disks."""
    return get_protocol(url) in ("file", "local")


def absolute(url: str) -> str:
    """The same place, independent of the working directory: local ones as a plain absolute path."""
    return str(LocalFileSystem._strip_protocol(url)) if is_local(url) else url
