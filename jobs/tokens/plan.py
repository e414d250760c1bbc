"""What a tokenizing run has to do, decided by the footers of the tables that exist."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.tokens.reading import shard_keys
from spae.data.sources import Shard
from spae.data.token_table import SCHEMA_VERSION, FoundTokenTable, read_token_table, token_table_url
from spae.model import SPAE
from spae.pyramid import check_layers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenPlan:
    """Which shards need a table and which have one."""

    todo: tuple[Shard, ...]
    done: tuple[Shard, ...]
    first: Shard | None = None
    """The first of both, in the order of the input; None where there are none."""

    @property
    def samples(self) -> int:
        """Samples to be tokenized, as far as they are known before they are read."""
        return sum(shard.samples or 0 for shard in self.todo)

    @property
    def uncounted(self) -> int:
        """Shards to be tokenized of which that is not known."""
        return sum(shard.samples is None for shard in self.todo)


def footer_identity(
    model: SPAE, layers: int | None = None, columns: tuple[str, ...] = (), text_layers: int = 0
) -> dict[str, Any]:
    """What the footers of a model's tables must say; the code's version, device and batch are information."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model_fingerprint": model.fingerprint,
        "words_fingerprint": model.vocabulary.words_fingerprint,
        "grids": model.config.grids,
        "layers": check_layers(layers, model.depth),
        "columns": columns,
        "text_layers": text_layers,
    }


def make_plan(
    shards: Sequence[Shard], tables: Mapping[str, FoundTokenTable], identity: Mapping[str, Any], *, replace: bool
) -> TokenPlan:
    """Sort shards into done and to do.

    ValueError, naming both sides, where tables of another model or other shards are in the way: without `replace`
    always, with it where they are not of these shards, since a folder holds the words of one model only. Whether a
    table of a shard's name is of this corpus at all is for `require_same_corpus` to say.
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
        first=shards[0] if shards else None,
    )


def require_same_corpus(shards: Sequence[Shard], tables: Mapping[str, FoundTokenTable], output: str) -> None:
    """ValueError where tables to be replaced may be of another corpus whose shards have the same names.

    They are of this one where any was made from the very shard of its name. Else the first that holds a row decides: it
    and the shard of its name must share a key, as they do where the shard was rebuilt.
    """
    named = {shard.name: shard for shard in shards}
    ours = {name: table.footer for name, table in sorted(tables.items()) if table.footer is not None and name in named}
    if any(footer.source_sha256 == named[name].sha256 for name, footer in ours.items()):
        return
    for name, footer in ours.items():
        if not footer.rows:
            continue
        url, shard = token_table_url(output, name), named[name]
        keys = read_token_table(url, layers=0)[0].keys
        if not shard_keys(shard).isdisjoint(keys):
            return
        raise ValueError(
            f"no table in {output} is of these shards, and {url} shares no key with {shard.url} (it has {keys[0]}): "
            "they are of another corpus whose shards have the same names, which --replace spares; give another "
            "--output, or delete the tables there"
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


def refuse_mixture(tables: Mapping[str, FoundTokenTable], plan: TokenPlan, device: str, dtype: str) -> None:
    """ValueError where tables that stay were made on another kind of device, or in another precision."""
    replaced = {shard.name for shard in plan.todo}
    asked = ("cpu" if device == "cpu" else "a GPU", dtype)
    for name, table in tables.items():
        if table.footer is None or name in replaced:
            continue
        made = ("cpu" if table.footer.device == "cpu" else "a GPU", table.footer.dtype)
        if made != asked:
            raise ValueError(
                f"{name}.parquet was made on {made[0]} in {made[1]}, and this run is on {asked[0]} in {asked[1]}: a "
                "few words differ; give another --output, the same --device and --dtype, or --allow-mixture"
            )


def warn_of_mixture(tables: Mapping[str, FoundTokenTable], device: str | None = None, batch: int | None = None) -> None:
    """Say so where tables were made under different conditions: ids agree then in all but rare last bits.

    `device` and `batch` are those of a run that is to follow; GPUs tell their names when it is done.
    """
    found = {(table.footer.device, table.footer.batch) for table in tables.values() if table.footer is not None}
    following = set() if device is None else {(device, batch)}
    if device == "cuda":
        following = {(name, batch) for name, _ in found if name != "cpu"} or following
    if len(found | following) > 1:
        logger.warning("tables of different (device, batch): %s", ", ".join(map(str, sorted(found | following))))
