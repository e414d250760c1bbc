"""Re-read one shard and name everything in which it differs from its sidecar and from the contract."""

import hashlib
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

import fsspec

from pipelines.media_check import media_problems
from pipelines.shard_plan import ShardSettings
from spae.publishing import join, read_bytes
from spae.records import (
    ERRORS_FOLDER,
    LABEL_SUFFIX,
    MEDIA_SUFFIXES,
    METADATA_SUFFIX,
    TEXT_SUFFIX,
    Sidecar,
    check_key,
)

READ_BYTES = 1 << 20


@dataclass
class ShardCheck:
    """What was found in one shard."""

    shard: str
    deviations: list[str] = field(default_factory=list)
    samples: int = 0
    keys: list[str] = field(default_factory=list)
    """Keys of the samples, then of the dead letters."""
    classes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class ShardChecker:
    """Checks the shards of one split against its class names and settings, where these are known."""

    folder: str
    class_names: dict[int, str]
    settings: ShardSettings | None

    def check(self, shard: str, sidecar: Sidecar | None) -> ShardCheck:
        """Check a shard whose tar exists; None for a sidecar that is missing or damaged."""
        found = ShardCheck(shard)
        reader = _HashingFile(fsspec.open(join(self.folder, f"{shard}.tar"), "rb").open())
        with reader:
            self._check_samples(reader, found)
            while reader.read(READ_BYTES):
                pass
        reasons = self._check_errors(found)
        if sidecar is None:
            found.deviations.append("its sidecar is missing or damaged")
            return found
        expected = {
            "shard": (sidecar.shard, shard),
            "bytes": (sidecar.bytes, reader.size),
            "sha256": (sidecar.sha256, reader.digest.hexdigest()),
            "samples": (sidecar.samples, found.samples),
            "classes": (sidecar.classes, dict(found.classes)),
            "errors": (sidecar.errors, reasons.total()),
            "reasons": (sidecar.reasons, dict(reasons)),
        }
        if self.settings:
            expected["settings"] = (sidecar.settings, asdict(self.settings))
        for name, (said, seen) in expected.items():
            if said != seen:
                found.deviations.append(f"its sidecar says {name} {said}, found {seen}")
        return found

    def _check_samples(self, reader: "_HashingFile", found: ShardCheck) -> None:
        try:
            with tarfile.open(fileobj=reader, mode="r|") as tar:
                for key, members in _samples(tar):
                    found.deviations += [f"{key}: {problem}" for problem in self._sample_problems(key, members)]
                    found.classes[members.get(LABEL_SUFFIX, b"none").decode(errors="replace")] += 1
                    found.keys.append(key)
                    found.samples += 1
        except (tarfile.TarError, EOFError) as error:
            found.deviations.append(f"no whole tar: {error}")

    def _sample_problems(self, key: str, members: dict[str, bytes]) -> Iterator[str]:
        try:
            check_key(key)
        except ValueError as error:
            yield str(error)
        media = [suffix for suffix in members if suffix in MEDIA_SUFFIXES]
        if len(media) != 1 or set(members) != {media[0], LABEL_SUFFIX, TEXT_SUFFIX, METADATA_SUFFIX}:
            yield f"members {sorted(members)} are not one of {', '.join(MEDIA_SUFFIXES)} with cls, txt and json"
            return
        data = members[media[0]]
        label = members[LABEL_SUFFIX].decode(errors="replace")
        name = self.class_names.get(int(label)) if re.fullmatch(r"[0-9]{1,9}", label) else None
        if not self.class_names:
            name = members[TEXT_SUFFIX].decode(errors="replace")
        elif name is None:
            yield f"label {label!r} is not in classes.parquet"
        elif members[TEXT_SUFFIX].decode(errors="replace") != name:
            yield f"txt says {members[TEXT_SUFFIX]!r}, classes.parquet {name!r}"
        said = _metadata(members[METADATA_SUFFIX])
        seen = {"label": label, "label_name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for field_name, value in seen.items():
            if str(said.get(field_name)) != str(value):
                yield f"json says {field_name} {said.get(field_name)}, found {value}"
        yield from media_problems(media[0], data)

    def _check_errors(self, found: ShardCheck) -> Counter[str]:
        data = read_bytes(join(self.folder, ERRORS_FOLDER, f"{found.shard}.jsonl")) or b""
        reasons: Counter[str] = Counter()
        for number, line in enumerate(data.splitlines(), 1):
            row = _metadata(line)
            if not {"key", "source_path", "reason"} <= set(row):
                found.deviations.append(f"line {number} of its errors lacks key, source_path or reason")
            reasons[str(row.get("reason"))] += 1
            found.keys.append(str(row.get("key")))
        return reasons


class _HashingFile(io.RawIOBase):
    """Counts and hashes what is read from a file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = 0
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.size += len(data)
        self.digest.update(data)
        return data

    def close(self) -> None:
        self.file.close()
        super().close()


def _samples(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, members by suffix) of each run of members with one key, as readers of tars group them."""
    current, members = "", dict[str, bytes]()
    for member in tar:
        key, _, suffix = member.name.partition(".")
        file = tar.extractfile(member) if member.isfile() else None
        if members and (key != current or suffix in members):
            yield current, members
            members = {}
        current = key
        members[suffix] = file.read() if file else b""
    if members:
        yield current, members


def _metadata(data: bytes) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
