"""Which files an --input names: all of a folder, one, or those of a pattern."""

import posixpath
import re
from collections.abc import Iterator
from typing import Any

import fsspec
from braceexpand import braceexpand


def matching_files(url: str, *suffixes: str) -> tuple[str, list[str]]:
    """The folder, and below it the sorted paths of the files that a folder, file, or pattern names.

    Braces are expanded as in shells ('{000..099}'), `*`, `?` and `[...]` match names. ValueError where there are none,
    or a named file has other suffixes.
    """
    file_system, path = fsspec.url_to_fs(url)
    root = posixpath.dirname(path)
    if file_system.isdir(path):
        root = path.rstrip("/")
        paths = [found for found in file_system.find(path) if found.endswith(suffixes)]
    elif file_system.exists(path):
        paths = [path]
    else:
        root = posixpath.dirname(re.split(r"[*?\[{]", path)[0])
        paths = list(_expanded(file_system, path))
    if not paths:
        kind = suffixes[0]
        raise ValueError(
            f"--input {url} names no {kind} file; give a folder of them, one, or a pattern such as *{kind}"
        )
    if others := [found for found in paths if not found.endswith(suffixes)]:
        raise ValueError(f"--input {url} names {others[0]}, which does not end with {' or '.join(suffixes)}")
    return str(file_system.unstrip_protocol(root)), sorted({found.removeprefix(f"{root}/") for found in paths})


def _expanded(file_system: Any, pattern: str) -> Iterator[str]:
    """What a pattern names; a file that braces name outright counts as there, so that a lost one is noticed."""
    for path in braceexpand(pattern):
        if re.search(r"[*?\[]", path):
            yield from file_system.glob(path)
        elif path != pattern:
            yield path
