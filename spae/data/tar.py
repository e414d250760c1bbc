"""Samples of a shard's tar, in tar order."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import fsspec
from webdataset.tariterators import group_by_keys, tar_file_iterator

from spae.data.records import MEDIA_SUFFIXES

MEND = "mend it with `python -m pipelines.verify URL --repair`"
"""The remedy for a damaged shard."""


@dataclass(frozen=True)
class Sample:
    """One sample of a shard: its key, the encoded picture or clip, and its label where it has one."""

    key: str
    media: bytes
    label: int | None


def read_samples(url: str, start: int = 0, stop: int | None = None) -> Iterator[Sample]:
    """Samples start..stop of a tar in WebDataset form, in tar order, over any fsspec URL."""
    with fsspec.open(url, "rb") as stream:
        yield from samples_of(stream, url, start, stop)


def samples_of(stream: IO[bytes], url: str, start: int = 0, stop: int | None = None) -> Iterator[Sample]:
    """The same of an open tar, which is read once from front to back; `url` names it in errors.

    ValueError where the tar is damaged or cut.
    """
    members = ({**member, "__url__": url} for member in tar_file_iterator(stream))
    try:
        for number, group in enumerate(group_by_keys(members)):
            if stop is not None and number >= stop:
                return
            if number >= start:
                yield _sample(group, url)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{url} is damaged: {error}; {MEND}") from error


def _sample(group: dict[str, Any], url: str) -> Sample:
    media = [group[suffix] for suffix in MEDIA_SUFFIXES if suffix in group]
    if len(media) != 1:
        raise ValueError(f"sample {group['__key__']} of {url} has {len(media)} of {MEDIA_SUFFIXES}; it needs one")
    label = group.get("cls")
    return Sample(group["__key__"], media[0], None if label is None else int(label))
