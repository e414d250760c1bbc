"""What decoding tells encoding, and encoding the driver: of one shard each.

Ray carries them as rows. Every row of a kind has the same columns, and all but the pixels stands in one of them as
JSON: a column of lists would change its Arrow type from shard to shard.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.tokens.reading import shard_from_json, shard_to_json
from spae.data.sources import Shard
from spae.evaluation.pictures import DecodedPictures, Undecodable

Row = dict[str, Any]


@dataclass(frozen=True)
class DecodedShard:
    """A shard with its pictures."""

    shard: Shard
    pictures: DecodedPictures


@dataclass(frozen=True)
class LargeShard:
    """A shard whose pictures are too many to pass between processes: they are decoded part by part."""

    shard: Shard


@dataclass(frozen=True)
class FailedShard:
    """A shard that gets no table, and why."""

    shard: Shard
    reason: str


@dataclass(frozen=True)
class TokenizedShard:
    """A shard whose table is published, and how many of its samples are not in it."""

    shard: Shard
    errors: int


Decoding = DecodedShard | LargeShard | FailedShard
Outcome = TokenizedShard | FailedShard

_NO_PIXELS = np.empty((0, 1, 1, 3), np.uint8)
_KINDS = {kind.__name__: kind for kind in (DecodedShard, LargeShard, FailedShard, TokenizedShard)}


def to_row(message: Decoding | Outcome) -> Row:
    """A message as a row of Ray: its kind, its values as JSON, its pixels."""
    pixels = _NO_PIXELS
    if isinstance(message, DecodedShard):  # asdict would copy the pixels, and JSON has none
        pixels = message.pictures.pixels
        message = DecodedShard(message.shard, dataclasses.replace(message.pictures, pixels=_NO_PIXELS))
    parts = {**dataclasses.asdict(message), "shard": shard_to_json(message.shard)}
    values = json.dumps(parts, default=np.ndarray.tolist)
    return {"kind": type(message).__name__, "values": values, "pixels": pixels}


def from_row(row: Row) -> Any:
    """Undo `to_row`."""
    values = json.loads(row["values"])
    values["shard"] = shard_from_json(values["shard"])
    if pictures := values.get("pictures"):
        errors = tuple(Undecodable(**error) for error in pictures["errors"])
        keys, labels = tuple(pictures["keys"]), tuple(pictures["labels"])
        values["pictures"] = DecodedPictures(keys, labels, np.asarray(row["pixels"]), errors)
    return _KINDS[row["kind"]](**values)
