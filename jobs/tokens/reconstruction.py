"""Rebuilding the pictures of a token table where the model is, and publishing them as a shard.

The tar's bytes depend on the table's rows, the model, the number of layers and the batch alone, on one device type and
with one version of the libraries: whoever writes a shard again writes the same bytes.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.retries import persistently
from jobs.tokens.actors import load_for_actor
from jobs.tokens.depth import decode_as_deep
from spae import __version__
from spae.data.media import encode_png
from spae.data.mp4 import encode_mp4
from spae.data.publishing import delete, join, publish, publishing
from spae.data.records import (
    ERRORS_FOLDER,
    LABEL_SUFFIX,
    METADATA_SUFFIX,
    RECONSTRUCTION,
    TEXT_SUFFIX,
    ClassName,
    Sidecar,
    safe_key,
)
from spae.data.tar_writer import TarWriter
from spae.data.token_table import TokenRows, TokenTableFooter, read_token_table
from spae.data.video import Frame
from spae.evaluation.pictures import decode_in_batches
from spae.pyramid import TokenPyramid

_CRF = 10  # of clips: what the encoder loses shall be little beside what the words do
_UNKNOWN_WORDS = "ids outside the vocabulary"
_OF_TABLE = ("source_shard", "source_sha256", "samples", "errors", "device", "dtype", "batch")
"""What of a footer tells one table of a model from another."""
_IF_ANY = ("removed_sha256", "error_db")
"""The same of footers that say it."""


@dataclass(frozen=True, kw_only=True)
class ReconstructionJob:
    """By which model words become pictures, and what else determines the bytes."""

    model: str
    model_fingerprint: str
    """The model must be this one wherever it is loaded."""
    tokens_model_fingerprint: str
    """Of the model that made the tables."""
    words_fingerprint: str
    layers: int
    batch: int
    device: str
    frame_rate: float | None
    """Frames a second of clips; None for images."""
    classes: tuple[ClassName, ...]
    """Names of the labels, none where they are not known."""

    @property
    def settings(self) -> dict[str, Any]:
        """What sidecars and samples say of their making."""
        names = ("model_fingerprint", "tokens_model_fingerprint", "words_fingerprint", "layers", "batch", "device")
        rate = {} if self.frame_rate is None else {"frame_rate": self.frame_rate}
        return {**{name: getattr(self, name) for name in names}, **rate}

    def plan(self, footer: TokenTableFooter) -> str:
        """Hash of all that determines a tar's bytes, of a table known by its footer."""
        table = {name: getattr(footer, name) for name in _OF_TABLE}
        table |= {name: value for name in _IF_ANY if (value := getattr(footer, name))}
        values = [self.settings, [dataclasses.asdict(row) for row in self.classes], footer.grids[: self.layers], table]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class PlannedTar:
    """A shard to be: the URL of its table, its folder and name, rows of the table, hash of what determines it."""

    table: str
    folder: str
    shard: str
    rows: int
    plan: str

    @property
    def url(self) -> str:
        """Where the tar stands."""
        return join(self.folder, f"{self.shard}.tar")


@dataclass(frozen=True)
class ReconstructedShard:
    """What became of a shard: its tar is published, but for so many rows, or it failed for a reason."""

    shard: str
    rows: int
    errors: int = 0
    reason: str = ""


@dataclass
class _Contents:
    """What a tar came to hold, for its sidecar."""

    samples: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    errors: list[dict[str, str]] = field(default_factory=list)


class ShardReconstructor:
    """An actor that holds the model: a token table in, its shard published, what became of it out."""

    def __init__(self, job: ReconstructionJob) -> None:
        self.job = job
        self.model = load_for_actor(job.model, job.model_fingerprint, job.device)
        self._names = {row.label: row for row in job.classes}

    def reconstruct(self, planned: PlannedTar) -> ReconstructedShard:
        """Decode a table and publish tar, dead letters and last the sidecar that marks the shard as finished."""
        try:
            errors = persistently(f"reconstructing {planned.shard}", lambda: self._write(planned))
        except Exception as error:  # of whatever library store or device need: the other shards go on
            return ReconstructedShard(planned.shard, planned.rows, planned.rows, str(error) or repr(error))
        return ReconstructedShard(planned.shard, planned.rows, errors)

    def _write(self, planned: PlannedTar) -> int:
        rows, footer = read_token_table(planned.table, self.job.layers)
        if self.job.plan(footer) != planned.plan:
            raise ValueError(f"{planned.table} is another table than when the job began; start again")
        keys = [safe_key(key) for key in rows.keys]
        if repeated := [key for key, count in Counter(keys).items() if count > 1]:
            raise ValueError(f"{planned.table} has the key {repeated[0]} in several rows; a shard holds each key once")
        contents, sidecar_url = _Contents(), join(planned.folder, f"{planned.shard}.json")
        with publishing(planned.url) as file:
            tar = TarWriter(file)
            for key, label, members in self._samples(rows, keys, planned, contents):
                for suffix in sorted(members):
                    tar.add(f"{key}.{suffix}", members[suffix])
                contents.samples += 1
                contents.classes.update([] if label is None else [str(label)])
            tar.close()
            delete(sidecar_url)  # at no time does it vouch for another tar
        _publish_errors(planned, contents.errors)
        sidecar = Sidecar(
            shard=planned.shard,
            samples=contents.samples,
            errors=len(contents.errors),
            bytes=tar.size,
            sha256=tar.digest.hexdigest(),
            plan=planned.plan,
            classes=dict(sorted(contents.classes.items(), key=lambda item: int(item[0]))),
            reasons=dict(Counter(row["reason"] for row in contents.errors)),
            settings={RECONSTRUCTION: {**self.job.settings, "code_version": __version__}},
        )
        publish(sidecar_url, sidecar.to_json().encode())
        return sidecar.errors

    def _samples(
        self, rows: TokenRows, keys: list[str], planned: PlannedTar, contents: _Contents
    ) -> Iterator[tuple[str, int | None, dict[str, bytes]]]:
        """Key, label and members of every row whose words can be decoded, in the table's order."""
        known = _known(rows, len(self.model.vocabulary))
        table = planned.table.rsplit("/", 1)[-1]
        contents.errors += [
            {"key": keys[number], "source_path": table, "reason": _UNKNOWN_WORDS, "details": f"row {number}"}
            for number in np.flatnonzero(~known)
        ]
        numbers = iter(np.flatnonzero(known).tolist())
        pyramid = TokenPyramid.from_arrays([layer[known] for layer in rows.layers])
        for pictures in self._decode(pyramid, None if rows.depth is None else rows.depth[known]):
            for picture in pictures:
                number = next(numbers)
                metadata = {"source_path": table, "source_key": rows.keys[number]}
                yield keys[number], rows.labels[number], self._members(picture, rows.labels[number], metadata)

    def _decode(self, pyramid: TokenPyramid, depth: NDArray[np.int32] | None) -> Iterator[NDArray[np.uint8]]:
        if depth is None:
            return decode_in_batches(self.model, pyramid, self.job.batch)
        return decode_as_deep(self.model, pyramid, np.minimum(depth, self.job.layers), self.job.batch)

    def _members(self, picture: NDArray[np.uint8], label: int | None, metadata: dict[str, Any]) -> dict[str, bytes]:
        """The members of one sample by suffix, of the form that pipelines.images and videos give them."""
        name = None if label is None else self._names.get(label)
        if self.job.frame_rate is None:
            suffix, data = "png", encode_png(picture)
        else:
            frames = [Frame(number / self.job.frame_rate, pixels) for number, pixels in enumerate(picture)]
            suffix, data = "mp4", encode_mp4(frames, rate=self.job.frame_rate, crf=_CRF)
            metadata = {**metadata, "fps": self.job.frame_rate, "frames": len(frames)}
        metadata = {
            "label": label,
            "label_name": name and name.name,
            "wnid": name and name.wnid,
            **metadata,
            RECONSTRUCTION: self.job.settings,
            "width": picture.shape[-2],
            "height": picture.shape[-3],
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        members = {
            suffix: data,
            TEXT_SUFFIX: (name.name if name else "").encode(),
            METADATA_SUFFIX: json.dumps(metadata).encode(),
        }
        return members if label is None else {**members, LABEL_SUFFIX: str(label).encode()}


def _known(rows: TokenRows, words: int) -> NDArray[np.bool_]:
    """Of each row whether all its ids are words."""
    each = [((ids >= 0) & (ids < words)).all(axis=tuple(range(1, ids.ndim))) for ids in rows.layers]
    return np.asarray(np.logical_and.reduce(each))


def _publish_errors(planned: PlannedTar, errors: list[dict[str, str]]) -> None:
    """Write a shard's dead letters; the file of an earlier attempt goes where there are none."""
    url = join(planned.folder, ERRORS_FOLDER, f"{planned.shard}.jsonl")
    if errors:
        publish(url, "".join(json.dumps(row) + "\n" for row in errors).encode())
    else:
        delete(url)
