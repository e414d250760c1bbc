"""The sidecars of a split's folder: which shards are finished, and what they hold."""

import itertools
import logging
from collections.abc import Iterable, Iterator

import fsspec

from spae.data.publishing import join
from spae.data.records import ShardInfo, Sidecar

SIDECARS_AT_ONCE = 256
"""Sidecars in memory: 30 MB of them for a thousand classes."""

logger = logging.getLogger(__name__)


def load_sidecars(folder: str, names: Iterable[str]) -> Iterator[Sidecar]:
    """The sidecars of the named shards, in order; those that do not exist or cannot be read are left out.

    They are read a batch at a time (at once, from a store), since all of a large split would fill the memory.
    """
    file_system, path = fsspec.url_to_fs(folder)
    remaining = iter(names)
    while batch := list(itertools.islice(remaining, SIDECARS_AT_ONCE)):
        paths = {name: f"{path.rstrip('/')}/{name}.json" for name in batch}
        found = file_system.cat(list(paths.values()), on_error="return")
        for name, sidecar_path in paths.items():
            content = found[sidecar_path]
            if isinstance(content, FileNotFoundError):
                continue
            if isinstance(content, Exception):
                raise content
            try:
                sidecar = Sidecar.from_json(content.decode())
                if sidecar.shard != name:
                    raise ValueError(f"this is the sidecar of {sidecar.shard}; delete it and rerun the sharding")
            except ValueError as error:
                logger.warning("%s: %s", sidecar_path, error)
            else:
                yield sidecar


def shard_info(folder: str, sidecar: Sidecar) -> ShardInfo:
    """The index row of a finished shard."""
    url = join(folder, f"{sidecar.shard}.tar")
    return ShardInfo(url, sidecar.samples, sidecar.bytes, sidecar.sha256, sidecar.errors)
