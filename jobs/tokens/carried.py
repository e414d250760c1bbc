"""Fields of samples that token tables carry: of a sample's json, or its text."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from spae.data.records import METADATA_SUFFIX, TEXT_SUFFIX, ShardInfo
from spae.data.sources import Shard, SourceShard
from spae.data.sources.base import Entry
from spae.data.token_table import is_own_column


@dataclass(frozen=True)
class CarriedField:
    """A field that `--carry` names: txt, json:NAME, or json:NAME.NAME inside of objects."""

    path: tuple[str, ...]
    """In the json; empty for the text."""

    @classmethod
    def parse(cls, text: str) -> "CarriedField":
        """ValueError where the text names no field."""
        source, _, path = text.partition(":")
        if text == TEXT_SUFFIX:
            return cls(())
        if source != METADATA_SUFFIX or not all(path.split(".")):
            raise ValueError(f"--carry {text} names no field; give txt, json:NAME, or json:NAME.NAME inside of objects")
        return cls(tuple(path.split(".")))

    @property
    def column(self) -> str:
        """Name of its column: its own, with `json_` before it where tables have another column of that name."""
        name = "_".join(self.path) or TEXT_SUFFIX
        return f"{METADATA_SUFFIX}_{name}" if is_own_column(name) else name

    def value(self, entry: Entry) -> str | None:
        """The field of a sample as text, a number or list as JSON; None where it has none."""
        if not self.path:
            return entry.text or None
        try:
            value: Any = json.loads(entry.original)
            for name in self.path:
                value = value[name]
        except (ValueError, TypeError, LookupError, RecursionError):  # no JSON, no object, no such field, too deep
            return None
        if value is None or isinstance(value, str):
            return value and value.encode(errors="replace").decode()  # JSON can spell half characters
        return json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()


def carried_fields(texts: Sequence[str]) -> tuple[CarriedField, ...]:
    """The fields that flags name; ValueError where one is none, or two would have one column."""
    fields = tuple(CarriedField.parse(text) for text in texts)
    names = [field.column for field in fields]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--carry {' '.join(texts)} gives two columns {repeated[0]}; leave one out")
    return fields


def carried_columns(shard: Shard, keys: Sequence[str], fields: Sequence[CarriedField]) -> dict[str, pa.Array]:
    """A column of strings a field, null where a sample has none, for the samples of these keys.

    The tar is read once more, its pictures left out; of a store it is fetched once more.
    """
    if not fields:
        return {}
    if isinstance(shard, ShardInfo):
        shard = SourceShard(name=shard.name, kind="tar", url=shard.url, sha256=shard.sha256, bytes=shard.bytes)
    entries: dict[str, Entry] = {}
    for entry in shard.listed():
        entries.setdefault(entry.key, entry)
    return {field.column: pa.array([field.value(entries[key]) for key in keys], pa.string()) for field in fields}
