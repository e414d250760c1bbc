"""One planned input becomes the members of a sample, or a dead letter; only a store's own failure is neither."""

import errno
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipelines.samples.maker import SampleMaker
from spae.data.media import MediaError
from spae.data.records import LABEL_SUFFIX, METADATA_SUFFIX, TEXT_SUFFIX, ClassName
from spae.data.sources import Entry, Source

_OF_ONE_PATH = (
    *(FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError),
    *(ValueError, TypeError, LookupError, ArithmeticError, ImportError, NotImplementedError, RecursionError),
)
"""What file systems raise for a path that leads nowhere, that they cannot parse, or of which they lack the protocol.
Stores tell of their own troubles by other OSErrors and by types of their client libraries."""
_ERRNOS_OF_ONE_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ, errno.ENXIO)
"""EIO, ENOSPC, ETIMEDOUT and their like are the store's."""


class StoreError(OSError):
    """A store did not give an input that it may give another time."""


@dataclass(frozen=True)
class Made:
    """What became of an input: the members of its sample by suffix, or why there are none."""

    members: dict[str, bytes] = field(default_factory=dict)
    reason: str = ""
    """One of few, to be counted; empty where there are members."""
    details: str = ""


class InputMaker:
    """Makes the samples of a split from an open source, one input at a time."""

    def __init__(self, source: Source, samples: SampleMaker, classes: Iterable[ClassName]) -> None:
        self._source, self._samples = _CarefulSource(source), samples
        self._names = {row.label: row for row in classes}

    def make(self, entry: Entry) -> Made:
        """The sample of an input. Whatever it does is a dead letter; StoreError where its store failed."""
        try:
            return Made(sample_members(self._source, self._samples, entry, self._names))
        except MediaError as error:
            return Made(reason=error.reason, details=str(error))
        except StoreError:
            raise
        except Exception as error:  # decoders and encoders raise many types on hostile bytes
            return Made(reason="cannot be processed", details=repr(error))


def sample_members(source: Source, maker: SampleMaker, entry: Entry, names: dict[int, ClassName]) -> dict[str, bytes]:
    """The members of one sample by suffix; MediaError where the input can be none.

    A source without classes gives samples without `cls`. Every sample has a `txt`, be it empty: open_clip skips others.
    """
    if entry.problem:
        raise MediaError(entry.problem)
    if entry.label is None and names:
        raise MediaError("no label")
    media = maker.media(source, entry)
    class_name = None if entry.label is None else names[entry.label]
    metadata = {
        "label": entry.label,
        "label_name": class_name and class_name.name,
        "wnid": class_name and class_name.wnid,
        **({"caption": entry.text} if entry.text else {}),
        "source_path": entry.path,
        **media.metadata,
        **({"original": _original(entry)} if entry.original else {}),
        "size": len(media.data),
        "sha256": hashlib.sha256(media.data).hexdigest(),
    }
    members = {
        media.suffix: media.data,
        TEXT_SUFFIX: (entry.text or (class_name.name if class_name else "")).encode(),
        METADATA_SUFFIX: json.dumps(metadata).encode(),
    }
    return members if entry.label is None else {**members, LABEL_SUFFIX: str(entry.label).encode()}


def _original(entry: Entry) -> Any:
    """What the input's own json says; as text where it is none."""
    try:
        return json.loads(entry.original, parse_constant=str)  # NaN is none of JSON
    except (ValueError, RecursionError):
        return entry.original


@dataclass(frozen=True)
class _CarefulSource:
    """A source whose `read` raises MediaError for what is wrong with one input, and StoreError for all else."""

    source: Source

    def classes(self) -> tuple[ClassName, ...]:
        return self.source.classes()

    def entries(self) -> Iterator[Entry]:
        return self.source.entries()

    def read(self, entry: Entry, limit: int) -> bytes:
        try:
            return self.source.read(entry, limit)
        except MediaError:
            raise
        except Exception as error:
            if isinstance(error, _OF_ONE_PATH) or getattr(error, "errno", None) in _ERRNOS_OF_ONE_PATH:
                raise MediaError("cannot be read", repr(error)) from error
            raise StoreError(f"cannot read the input {entry.path}: {error!r}") from error
