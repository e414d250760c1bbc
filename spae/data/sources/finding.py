"""What an --input of bulk work names: shards of ours, tars that others wrote, folders and lists of images."""

import dataclasses
import hashlib
import json
import logging
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from typing import Any, Literal

import fsspec

from spae.data.publishing import absolute, join, read_bytes
from spae.data.records import (
    CLASSES_FILE,
    INDEX_FILE,
    ClassName,
    ShardInfo,
    find_splits,
    load_classes,
    load_index,
    safe_key,
)
from spae.data.sources.base import Entry
from spae.data.sources.files import BAD_PATHS, NOT_TEXT, UNREADABLE, Place, counted, is_text, path_key, readable
from spae.data.sources.list_file import ListSource
from spae.data.sources.patterns import matching_files
from spae.data.sources.source_shard import SourceShard
from spae.data.sources.unpacked import TAR_SUFFIXES

LIST_SUFFIXES = (".csv", ".tsv", ".txt", ".lst")
RESERVED = ("vocabulary", "classes")
"""Names of what stands beside the tables."""
_VERSIONS = ("etag", "ETag", "md5Hash", "generation", "mtime", "LastModified", "last_modified", "created")
_SIMULTANEOUS_READS = 32

Shard = ShardInfo | SourceShard

logger = logging.getLogger(__name__)


def find_shards(urls: Sequence[str], files: int, patterns: str) -> list[Shard]:
    """The shards that these places name, in order, `files` files of a folder or of a list each.

    A place is a split of ours, a folder of splits or an index.json; a tar, or a pattern of tars with braces or `*`; a
    folder of tars, or of images at any depth (`patterns`, with commas between, says how these are called); a list
    (.csv, .tsv or text). A tar that an index.json beside it names is one of ours in any case. ValueError where a place
    names nothing, and where two shards have one name.
    """
    shards = [shard for url in urls for shard in _shards(url, files, patterns)]
    places: dict[str, str] = {}
    for shard in shards:
        if shard.name in RESERVED:
            raise ValueError(f"{shard.url} gives a table called {shard.name}, as what lies beside them is; rename it")
        if shard.name in places:
            raise ValueError(
                f"two shards are called {shard.name}: of {places[shard.name]} and of {shard.url}; a folder holds one "
                "table of a name, so give them in two runs with an --output each"
            )
        places[shard.name] = shard.url
    return shards


def find_classes(shards: Sequence[Shard]) -> tuple[ClassName, ...]:
    """What the labels of these shards mean: classes of splits and of lists; none where nobody tells.

    ValueError where one label means two things.
    """
    folders = sorted({posixpath.dirname(shard.url) for shard in shards if isinstance(shard, ShardInfo)})
    lists = sorted({shard.url for shard in shards if isinstance(shard, SourceShard) and shard.kind == "list"})
    found = {folder: load_classes(folder) for folder in folders if read_bytes(join(folder, CLASSES_FILE)) is not None}
    found |= {url: ListSource(url).classes() for url in lists}
    names: dict[int, ClassName] = {}
    for url, classes in found.items():
        for row in classes:
            if names.setdefault(row.label, row) != row:
                raise ValueError(f"label {row.label} is {row.name} in {url} and {names[row.label].name} elsewhere")
    return tuple(names[label] for label in sorted(names))


def _shards(url: str, files: int, patterns: str) -> Sequence[Shard]:
    if url.endswith(".json"):
        return load_index(url).shards
    if url.endswith(TAR_SUFFIXES):
        root, names = matching_files(url, *TAR_SUFFIXES)
        return _tars(absolute(root), dict(zip(names, _states(Place(root, name) for name in names), strict=True)))
    if url.lower().endswith(LIST_SUFFIXES):
        return list(_listed(absolute(url), files))
    if splits := find_splits(url):
        return [shard for split in splits for shard in load_index(split).shards]
    return _folder(absolute(url), files, patterns.split(","))


def _folder(url: str, files: int, patterns: Sequence[str]) -> Sequence[Shard]:
    """A folder of tars or of images, at any depth."""
    file_system, root = fsspec.url_to_fs(url)
    file_system.invalidate_cache(root)
    found = file_system.find(root, detail=True)
    infos = {path.removeprefix(f"{root.rstrip('/')}/"): info for path, info in sorted(found.items())}
    tars = {path: _state(info) for path, info in infos.items() if path.endswith(TAR_SUFFIXES)}
    images = [path for path in infos if any(fnmatchcase(path.lower(), pattern) for pattern in patterns)]
    if not tars and not images:
        raise ValueError(
            f"--input {url} names no shards, tars or images; give a split of shards, a folder of images or of tars, a "
            f"pattern of tars such as 'shards/{{000..099}}.tar', or a list ({', '.join(LIST_SUFFIXES)})"
        )
    if tars and images:
        raise ValueError(
            f"--input {url} holds tars ({next(iter(tars))}) and images ({images[0]}); give a folder of one kind, "
            "or the tars by a pattern"
        )
    left_out = Counter(posixpath.splitext(path)[1].lower() or "without suffix" for path in {*infos} - {*tars, *images})
    if left_out:
        logger.info("%s: %d files are no inputs by their names: %s", url, left_out.total(), counted(left_out))
    if tars:
        return _tars(url, tars)
    entries = [
        Entry(readable(path), path, size=infos[path]["size"], problem="" if is_text(path) else NOT_TEXT)
        for path in images
    ]
    return list(_groups("folder", url, entries, [_state(infos[path]) for path in images], files))


def _listed(url: str, files: int) -> Iterator[Shard]:
    """The lines of a list, each under its path as key; one that comes again is a problem."""
    source, seen = ListSource(url), set[str]()
    entries = []
    for entry in source.entries():
        problem = entry.problem or ("a path that came before" if entry.path in seen else "")
        entries.append(dataclasses.replace(entry, key=entry.path, problem=problem))
        seen.add(entry.path)
    if not entries:
        raise ValueError(f"--input {url} is an empty list; give one path or URL a line")
    states = _states(None if entry.problem else source.place(entry) for entry in entries)
    return _groups("list", url, entries, states, files)


def _groups(
    kind: Literal["folder", "list"], url: str, entries: Sequence[Entry], states: Sequence[Any], files: int
) -> Iterator[Shard]:
    stem = posixpath.basename(url.rstrip("/"))
    stem = safe_key(posixpath.splitext(stem)[0] if kind == "list" else stem)
    for index, begin in enumerate(range(0, len(entries), files)):
        own = entries[begin : begin + files]
        parts = [(entry.path, entry.label, state) for entry, state in zip(own, states[begin:], strict=False)]
        yield SourceShard(
            name=f"{stem}-{index:06d}",
            kind=kind,
            url=url,
            sha256=_digest(parts),
            bytes=sum(state[0] or 0 for state in states[begin : begin + files]),
            samples=len(own),
            entries=tuple(own),
        )


def _tars(root: str, states: dict[str, tuple[int | None, str]]) -> list[Shard]:
    """Tars below a folder by their paths there: ours where an index beside them says so, else as others wrote them."""
    ours: dict[str, ShardInfo] = {}
    for folder in sorted({posixpath.dirname(join(root, name)) for name in states}):
        if read_bytes(join(folder, INDEX_FILE)) is not None:
            ours |= {shard.url: shard for shard in load_index(folder).shards}
    return [ours.get(join(root, name)) or _tar(root, name, state) for name, state in states.items()]


def _tar(root: str, name: str, state: tuple[int | None, str]) -> SourceShard:
    if "::" in name or "://" in name:
        raise ValueError(f"{name!r} in {root} would be a URL of its own; rename the tar")
    stem = name.removesuffix(next(suffix for suffix in TAR_SUFFIXES if name.endswith(suffix)))
    digest, size = _digest((name, state)), state[0] or 0
    return SourceShard(name=path_key(f"{stem}.tar"), kind="tar", url=join(root, name), sha256=digest, bytes=size)


def _states(places: Iterable[Place | None]) -> list[tuple[int | None, str]]:
    """Size and version of files, several at once; neither of those that are none, or lie on the web."""
    with ThreadPoolExecutor(_SIMULTANEOUS_READS) as pool:
        return list(pool.map(_state_of, places))


def _state_of(place: Place | None) -> tuple[int | None, str]:
    if place is None or place.url.startswith(("http://", "https://")):
        return None, ""
    try:
        file_system, path = place.locate()
        return _state(file_system.info(path))
    except (*UNREADABLE, ValueError, ImportError):  # whoever reads it says what it lacks
        return None, "missing"
    except OSError as error:
        if error.errno not in BAD_PATHS:
            raise
        return None, "missing"


def _state(info: dict[str, Any]) -> tuple[int | None, str]:
    return info["size"], str(next((info[name] for name in _VERSIONS if info.get(name) is not None), ""))


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
