"""Whether token tables are what their footers say: schema, counts, ids, repeated rows, columns that repeat words."""

import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.tokens.columns import word_texts
from spae.data.publishing import join, list_files, read_bytes
from spae.data.records import ERRORS_FOLDER, read_parquet
from spae.data.sources import Shard
from spae.data.token_sequences import ROWS_AT_ONCE
from spae.data.token_table import (
    DEPTH_COLUMN,
    LLM_IDS_COLUMN,
    MANIFEST_FILE,
    TEXT_COLUMN,
    VIEW_COLUMN,
    VOCABULARY_FILE,
    FoundTokenTable,
    TokenTableFooter,
    rows_of_table,
    table_schema,
    token_table_url,
)
from spae.model import SPAE

_SIMULTANEOUS_TABLES = 4
"""Each holds some thousand rows and the keys of its table."""
_SHOWN = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Words:
    """vocabulary.parquet: the language model's id and the text of each word id."""

    llm_ids: NDArray[np.int32]
    texts: NDArray[np.object_]


def read_words(folder: str) -> tuple[Words | None, list[str]]:
    """The words beside the tables, and what is wrong with them."""
    url = join(folder, VOCABULARY_FILE)
    data = read_bytes(url)
    if data is None:
        return None, [f"{url} does not exist, so that nothing tells what the ids mean"]
    try:
        table = read_parquet(data)
        ids, llm_ids, texts = (table[name].to_numpy() for name in ("id", "llm_id", "word"))
    except (pa.ArrowException, KeyError) as error:
        return None, [f"{url} is no vocabulary of id, llm_id and word: {error}"]
    if not np.array_equal(ids, np.arange(len(ids))):
        return None, [f"{url} has other ids than 0 to {len(ids) - 1} in this order"]
    return Words(llm_ids, texts), []


def log_deviations(
    folder: str,
    tables: Mapping[str, FoundTokenTable],
    model: SPAE | None = None,
    shards: Iterable[Shard] = (),
) -> int:
    """Name what is not as it should be in a folder of tables, of a model and of shards, and tell how much it is."""
    checks = [folder_deviations(folder, tables), input_deviations(tables, shards)]
    if model is not None:
        checks.append(model_deviations(folder, tables, model))
    deviations = 0
    for text in itertools.chain.from_iterable(checks):
        logger.error("%s", text)
        deviations += 1
    footers = [table.footer for table in tables.values() if table.footer is not None]
    logger.info(
        "%s: %d tables, %d rows, %d errors; %d deviations",
        *(folder, len(tables), sum(footer.rows for footer in footers), sum(footer.errors for footer in footers)),
        deviations,
    )
    return deviations


def folder_deviations(folder: str, tables: Mapping[str, FoundTokenTable]) -> Iterator[str]:
    """What of a folder of tables is not as it should be, one line each; every row is read."""
    words, wrong = read_words(folder)
    yield from wrong
    footers = {name: table.footer for name, table in sorted(tables.items()) if table.footer is not None}
    yield from (table.problem for table in tables.values() if table.footer is None)
    yield from _mixtures(footers)
    yield from _dead_letters(folder, footers)
    yield from _manifest(folder, tables)

    def read(name: str) -> list[str]:
        url = token_table_url(folder, name)
        try:
            return [f"{url} {text}" for text in table_deviations(url, name, words)]
        except (pa.ArrowException, OSError, ValueError) as error:
            return [f"{url} cannot be read: {error}"]

    with ThreadPoolExecutor(_SIMULTANEOUS_TABLES) as pool:
        for found in pool.map(read, footers):
            yield from found


def model_deviations(folder: str, tables: Mapping[str, FoundTokenTable], model: SPAE) -> Iterator[str]:
    """Tables and words that are not of a model."""
    fingerprints = {"model_fingerprint": model.fingerprint, "words_fingerprint": model.vocabulary.words_fingerprint}
    for name, table in tables.items():
        for key, value in fingerprints.items():
            if table.footer is not None and (found := getattr(table.footer, key)) != value:
                yield f"{name}.parquet has {key} {found}, and the model has {value}"
    url = join(folder, VOCABULARY_FILE)
    if read_bytes(url) != model.vocabulary.words_parquet():
        yield f"{url} is not what the model's vocabulary gives"


def input_deviations(tables: Mapping[str, FoundTokenTable], shards: Iterable[Shard]) -> Iterator[str]:
    """Shards without a table, or with the table of another shard."""
    for shard in shards:
        footer = tables[shard.name].footer if shard.name in tables else None
        if footer is None:
            yield f"{shard.url} has no table"
        elif footer.source_sha256 != shard.sha256:
            yield f"{shard.name}.parquet has source_sha256 {footer.source_sha256}, and {shard.url} has {shard.sha256}"


def table_deviations(url: str, name: str, words: Words | None) -> list[str]:
    """What is wrong in a table of this name; ids are compared with words where these are known."""
    with fsspec.open(url, "rb") as file:
        parquet = pq.ParquetFile(file)
        footer = TokenTableFooter.from_metadata(parquet.metadata.metadata or {})
        found = [] if footer.source_shard == name else [f"is the table of {footer.source_shard}, by its footer"]
        if difference := _schema_difference(parquet.schema_arrow, footer):
            return [*found, difference]
        seen: set[tuple[object, ...]] = set()
        repeated: list[str] = []
        wrong: dict[str, int] = {}
        for part in parquet.iter_batches(ROWS_AT_ONCE, use_threads=False):
            for row in zip(*(part[column].to_pylist() for column in footer.identity_columns), strict=True):
                if row in seen:
                    repeated.append(str(row[0]))
                seen.add(row)
            for text, count in _wrong_rows(part, footer, words):
                wrong[text] = wrong.get(text, 0) + count
    if repeated:
        shown = ", ".join(repeated[:_SHOWN])
        found.append(f"has {len(repeated)} rows whose {', '.join(footer.identity_columns)} stood before: {shown}")
    return [*found, *(f"has {text} in {count} rows" for text, count in wrong.items())]


def _wrong_rows(part: pa.RecordBatch, footer: TokenTableFooter, words: Words | None) -> Iterator[tuple[str, int]]:
    """What is wrong with rows of a table, and how many they are."""
    depths = np.full(part.num_rows, footer.layers, np.int32)
    if DEPTH_COLUMN in footer.columns:
        depths = part[DEPTH_COLUMN].to_numpy()
        yield from _counted(
            f"a {DEPTH_COLUMN} that is not 1 to {footer.layers}", (depths < 1) | (depths > footer.layers)
        )
    if VIEW_COLUMN in footer.columns:
        views = part[VIEW_COLUMN].to_numpy()
        yield from _counted(
            f"a {VIEW_COLUMN} that is not 0 to {footer.views - 1}", (views < 0) | (views >= footer.views)
        )
    if footer.clips is not None:
        clips = part["clip"].fill_null(-1).to_numpy()
        yield from _counted(f"a clip that is not 0 to {footer.clips - 1}", (clips < 0) | (clips >= footer.clips))
    grids = footer.stored_grids("")
    for number in range(1, len(grids) + 1):
        is_set = part[f"layer_{number}"].is_valid().to_numpy(zero_copy_only=False)
        if wrong := list(_counted(f"a {DEPTH_COLUMN} that layer_{number} contradicts", is_set != (depths >= number))):
            yield from wrong
            return
    if words is not None:
        layers = [ids.reshape(part.num_rows, -1) for ids in rows_of_table(part, grids).layers]
        yield from _wrong_words(part, footer, words, layers, depths)


def _wrong_words(
    part: pa.RecordBatch,
    footer: TokenTableFooter,
    words: Words,
    layers: list[NDArray[np.int32]],
    depths: NDArray[np.int32],
) -> Iterator[tuple[str, int]]:
    """Ids that are no words, and columns that do not say the same as the ids."""
    count = len(words.texts)
    for number, ids in enumerate(layers, 1):
        outside = list(_counted(f"ids in layer_{number} that are not 0 to {count - 1}", (ids < 0) | (ids >= count)))
        yield from outside
        if outside:
            return
    if LLM_IDS_COLUMN in footer.columns:
        given = pc.list_flatten(part[LLM_IDS_COLUMN]).to_numpy().reshape(part.num_rows, -1)
        yield from _counted(
            f"other {LLM_IDS_COLUMN} than those of its words", given != words.llm_ids[np.hstack(layers)]
        )
    if TEXT_COLUMN in footer.columns:
        texts = word_texts(words.texts, layers[: footer.text_layers], depths)
        different = np.asarray(texts, object) != part[TEXT_COLUMN].to_numpy(zero_copy_only=False)
        yield from _counted(f"another {TEXT_COLUMN} than its words", different)


def _counted(text: str, different: NDArray[np.bool_]) -> Iterator[tuple[str, int]]:
    if rows := int(different.reshape(len(different), -1).any(axis=1).sum()):
        yield text, rows


def _schema_difference(schema: pa.Schema, footer: TokenTableFooter) -> str:
    """How the columns are not those of the footer, "" where they are."""
    fixed = table_schema(footer)
    names = [*fixed.names, *footer.columns]
    if schema.names != names:
        return f"has the columns {', '.join(schema.names)}, and its footer says {', '.join(names)}"
    for field in fixed:
        if not schema.field(field.name).equals(field):
            return f"has the column {schema.field(field.name)}, not {field}"
    return ""


def _mixtures(footers: Mapping[str, TokenTableFooter]) -> Iterator[str]:
    """Tables that say other things than the first of what all in a folder share."""
    first = next(iter(footers), "")
    for name, footer in footers.items():
        there = footers[first].shared
        for key, value in footer.shared.items():
            if value != there[key]:
                yield f"{name}.parquet has {key} {value}, and {first}.parquet has {there[key]}"


def _dead_letters(folder: str, footers: Mapping[str, TokenTableFooter]) -> Iterator[str]:
    """Tables whose errors are not as many as their dead letters, and dead letters without a table."""
    place = join(folder, ERRORS_FOLDER)
    files: dict[str, list[str]] = {}
    for name in list_files(place):
        if name.endswith((".jsonl", ".parquet")):
            files.setdefault(name.rsplit(".", 1)[0], []).append(name)
    for name, footer in footers.items():
        try:
            count = sum(_rows(join(place, file)) for file in files.get(name, ()))
        except (pa.ArrowException, OSError) as error:
            yield f"{place} has dead letters of {name} that cannot be read: {error}"
            continue
        if count != footer.errors:
            yield f"{name}.parquet has {footer.errors} errors by its footer, and {place} has {count} dead letters of it"
    yield from (f"{join(place, file)} is of no table" for name in files.keys() - footers.keys() for file in files[name])


def _rows(url: str) -> int:
    if url.endswith(".jsonl"):
        return len((read_bytes(url) or b"").splitlines())
    with fsspec.open(url, "rb") as file:
        return int(pq.read_metadata(file).num_rows)


def _manifest(folder: str, tables: Mapping[str, FoundTokenTable]) -> Iterator[str]:
    """How manifest.json differs from what the files say."""
    url = join(folder, MANIFEST_FILE)
    data = read_bytes(url)
    if data is None:
        yield f"{url} does not exist; the same tokenizing command again writes it"
        return
    try:
        listed = {row["url"]: row for row in json.loads(data)["tables"]}
        told = {name: (row["rows"], row["errors"], row["bytes"]) for name, row in listed.items()}
    except (ValueError, KeyError, TypeError) as error:
        yield f"{url} is no manifest of token tables: {error!r}"
        return
    found = {
        f"{name}.parquet": (table.footer.rows, table.footer.errors, table.bytes)
        for name, table in tables.items()
        if table.footer is not None
    }
    for name in sorted({*told, *found}):
        if told.get(name) != found.get(name):
            here, there = (
                ", ".join(map(str, values)) if values else "none" for values in (told.get(name), found.get(name))
            )
            yield f"{url} says of {name}: {here}, and the folder: {there} (rows, errors, bytes)"
