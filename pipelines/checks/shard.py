"""Re-read one shard and name everything in which it differs from its sidecar and from the contract."""

import hashlib
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, BinaryIO

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.checks.media import media_problems
from pipelines.planning.entry_rows import PlanHasher, determining
from pipelines.planning.plan import ShardSettings
from spae.data.publishing import join, read_bytes
from spae.data.records import (
    CLASSES_FILE,
    ERRORS_FOLDER,
    LABEL_SUFFIX,
    MEDIA_SUFFIXES,
    METADATA_SUFFIX,
    TEXT_SUFFIX,
    ClassName,
    Sidecar,
    check_key,
)

READ_BYTES = 1 << 20


@dataclass
class ShardCheck:
    """What was found in one shard."""

    shard: str
    deviations: list[str] = field(default_factory=list)
    sidecar: Sidecar | None = None
    samples: int = 0
    keys: list[str] = field(default_factory=list)
    """Keys of the samples, then of the dead letters."""
    classes: Counter[str] = field(default_factory=Counter)
    plan: str | None = None
    """Hash of its planned inputs, None where they are not known."""

    def key_hashes(self) -> NDArray[np.uint64]:
        """8 bytes of hash of each key."""
        digests = [hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest() for key in self.keys]
        return np.frombuffer(b"".join(digests), np.uint64)


@dataclass(frozen=True)
class ShardChecker:
    """Checks the shards of one split against its classes and settings, where these are known."""

    folder: str
    classes: tuple[ClassName, ...] | None
    """None where they are not known, empty where samples have no labels."""
    settings: ShardSettings | None

    @cached_property
    def class_names(self) -> dict[int, str] | None:
        """Name of each label, None where they are not known."""
        return None if self.classes is None else {row.label: row.name for row in self.classes}

    def plan_hash(self, planned: pa.Table | None) -> str | None:
        """The hash of a shard with these inputs, None where they, settings or classes are not known."""
        return self._hasher.hash_of(planned) if self._hasher and planned is not None else None

    @cached_property
    def _hasher(self) -> PlanHasher | None:
        return PlanHasher(self.settings, self.classes) if self.settings and self.classes is not None else None

    def check(self, shard: str, sidecar: Sidecar | None, planned: pa.Table | None) -> ShardCheck:
        """Check a shard whose tar exists; None for a sidecar and planned inputs that are missing or damaged."""
        found = ShardCheck(shard, sidecar=sidecar, plan=self.plan_hash(planned))
        reader = _HashingFile(fsspec.open(join(self.folder, f"{shard}.tar"), "rb").open())
        with reader:
            self._check_samples(reader, found)
            while reader.read(READ_BYTES):
                pass
        reasons = self._check_errors(found)
        if sidecar is None:
            found.deviations.append("its sidecar is missing or damaged")
        else:
            seen = {"bytes": reader.size, "sha256": reader.digest.hexdigest(), "reasons": dict(reasons)}
            found.deviations += self._sidecar_problems(sidecar, found, seen)
        if planned is not None:
            found.deviations += _key_problems(found, planned["key"].to_pylist())
        return found

    def _sidecar_problems(self, sidecar: Sidecar, found: ShardCheck, seen: dict[str, Any]) -> Iterator[str]:
        seen |= {"samples": found.samples, "classes": dict(found.classes)}
        seen["errors"] = sum(seen["reasons"].values())
        if found.plan:
            seen["plan"] = found.plan
        if self.settings:
            seen["settings"] = determining(self.settings)
        for name, value in seen.items():
            if getattr(sidecar, name) != value:
                yield f"its sidecar says {name} {getattr(sidecar, name)}, found {value}"

    def _check_samples(self, reader: "_HashingFile", found: ShardCheck) -> None:
        try:
            with tarfile.open(fileobj=reader, mode="r|") as tar:
                for key, members in _samples(tar):
                    found.deviations += [f"{key}: {problem}" for problem in self._sample_problems(key, members)]
                    if LABEL_SUFFIX in members:
                        found.classes[members[LABEL_SUFFIX].decode(errors="replace")] += 1
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
        label = members[LABEL_SUFFIX].decode(errors="replace") if LABEL_SUFFIX in members else None
        others = [*([LABEL_SUFFIX] if self._needs_label(label) else []), TEXT_SUFFIX, METADATA_SUFFIX]
        if len(media) != 1 or set(members) != {media[0], *others}:
            wanted = f"{', '.join(MEDIA_SUFFIXES)} with {', '.join(others[:-1])} and {others[-1]}"
            yield f"members {sorted(members)} are not one of {wanted}"
            return
        data, metadata = members[media[0]], _metadata(members[METADATA_SUFFIX])
        name = metadata.get("label_name")
        if self.class_names and label is not None:
            name = self.class_names.get(int(label)) if re.fullmatch(r"[0-9]{1,10}", label) else None
            if name is None:
                yield f"label {label!r} is not in classes.parquet"
        text = metadata.get("caption", name or "")
        if members[TEXT_SUFFIX].decode(errors="replace") != text:
            place = "json" if "caption" in metadata else CLASSES_FILE
            yield f"txt says {members[TEXT_SUFFIX]!r}, {place} {text!r}"
        seen = {"label": label, "label_name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for field_name, value in seen.items():
            if str(metadata.get(field_name)) != str(value):
                yield f"json says {field_name} {metadata.get(field_name)}, found {value}"
        yield from media_problems(media[0], data)

    def _needs_label(self, label: str | None) -> bool:
        return label is not None if self.class_names is None else bool(self.class_names)

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


def _key_problems(found: ShardCheck, planned: Sequence[str]) -> Iterator[str]:
    """Keys that are not exactly those planned: each once, the samples in the planned order."""
    for key, count in (Counter(found.keys) - Counter(planned)).items():
        yield f"key {key} is not planned here" if key not in planned else f"key {key} occurs {count} times too often"
    for key in Counter(planned) - Counter(found.keys):
        yield f"planned key {key} is neither a sample nor an error"
    samples = set(found.keys[: found.samples])
    if found.keys[: found.samples] != [key for key in planned if key in samples]:
        yield "its samples are not in the planned order"


def _metadata(data: bytes) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
