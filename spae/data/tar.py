"""Samples of a shard's tar, in tar order."""

import re
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

import fsspec
from webdataset.tariterators import group_by_keys, tar_file_iterator

from spae.data.records import LABEL_SUFFIX, MEDIA_SUFFIXES

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


def samples_at(file: IO[bytes], url: str, places: Collection[int]) -> Iterator[Sample]:
    """The samples at these places of an open plain tar that can seek, in tar order: of the others no more is read than
    their headers, and of these what training needs.

    ValueError as `samples_of`.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            members = ({"fname": one.name, "data": one, "__url__": url} for one in tar if _counts(one))
            for number, group in enumerate(group_by_keys(members)):
                if number in places:
                    yield _sample({name: _content(tar, value) for name, value in group.items() if _needed(name)}, url)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{url} is damaged: {error}; {MEND}") from error


def _counts(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not re.match(r"__[^/]*__($|/)", member.name)  # as webdataset has it


def _needed(name: str) -> bool:
    return name in (*MEDIA_SUFFIXES, LABEL_SUFFIX, "__key__")


def _content(tar: tarfile.TarFile, value: str | tarfile.TarInfo) -> str | bytes:
    if isinstance(value, str):
        return value
    content = cast(IO[bytes], tar.extractfile(value)).read()
    if len(content) < value.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _sample(group: dict[str, Any], url: str) -> Sample:
    media = [group[suffix] for suffix in MEDIA_SUFFIXES if suffix in group]
    if len(media) != 1:
        raise ValueError(f"sample {group['__key__']} of {url} has {len(media)} of {MEDIA_SUFFIXES}; it needs one")
    label = group.get("cls")
    return Sample(group["__key__"], media[0], None if label is None else int(label))
