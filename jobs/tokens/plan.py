"""What a tokenizing run has to do, decided by the footers of the tables that exist."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spae.data.records import ShardInfo
from spae.data.token_table import SCHEMA_VERSION, FoundTokenTable
from spae.model import SPAE

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenPlan:
    """Which shards need a table and which have one."""

    todo: tuple[ShardInfo, ...]
    done: tuple[ShardInfo, ...]

    @property
    def samples(self) -> int:
        """Samples to be tokenized."""
        return sum(shard.samples for shard in self.todo)


def footer_identity(model: SPAE) -> dict[str, Any]:
    """What the footers of a model's tables must say; the code's version, device and batch are information."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model_fingerprint": model.fingerprint,
        "words_fingerprint": model.vocabulary.words_fingerprint,
        "grids": model.config.grids,
    }


def make_plan(
    shards: Sequence[ShardInfo], tables: Mapping[str, FoundTokenTable], identity: Mapping[str, Any], *, replace: bool
) -> TokenPlan:
    """Sort shards into done and to do.

    ValueError, naming both sides, where tables of another model or other shards are in the way: without `replace`
    always, with it where they are not of these shards, since a folder holds the words of one model only.
    """
    checksums = {shard.name: shard.sha256 for shard in shards}
    conflicts = {}
    for name, table in tables.items():
        expected = {**identity, "source_sha256": checksums[name]} if name in checksums else identity
        if conflict := _conflict(table, expected):
            conflicts[name] = conflict
        elif table.problem:
            logger.warning("%s; it is not counted", table.problem)
    replaceable = {name for name in conflicts if replace and name in checksums and not tables[name].foreign}
    if in_the_way := [f"{name}.parquet {text}" for name, text in conflicts.items() if name not in replaceable]:
        raise ValueError(
            f"{len(in_the_way)} of the {len(tables)} tables in the output folder do not fit; {in_the_way[0]}. Give "
            "another --output, or --replace to write the tables of this input anew"
        )
    done = {name for name, table in tables.items() if table.footer is not None and name not in conflicts}
    return TokenPlan(
        todo=tuple(shard for shard in shards if shard.name not in done),
        done=tuple(shard for shard in shards if shard.name in done),
    )


def _conflict(table: FoundTokenTable, expected: Mapping[str, Any]) -> str:
    """What of an existing table is not as expected, or nothing."""
    if table.foreign:
        return f"is not one of ours: {table.problem}"
    if table.footer is None:
        return ""
    for name, value in expected.items():
        found = getattr(table.footer, name)
        if found != value:
            return f"has {name} {found}, and this run has {value}"
    return ""


def warn_of_mixture(tables: Mapping[str, FoundTokenTable], device: str, batch: int) -> None:
    """Say so where finished tables were made under other conditions: ids agree then in all but rare last bits."""
    others = {
        (table.footer.device, table.footer.batch)
        for table in tables.values()
        if table.footer is not None and (table.footer.device, table.footer.batch) != (device, batch)
    }
    if others:
        logger.warning("finished tables were made on other (device, batch) than (%s, %d): %s", device, batch, others)
