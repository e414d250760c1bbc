"""Episodes and their rows on disk: `{output}/{task}/{setting}/episodes-{index:06d}.parquet`, a row a query.

An episode is one support; its queries share it. What an episode holds depends on its number and the seed alone, so that
any part of a run can be made again. A file is whole or absent, and says in its footer what made it.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from spae.data.publishing import join, list_files, publishing
from spae.incontext.language_model import Prompt

SCHEMA = pa.schema(
    [
        pa.field("episode", pa.int64(), nullable=False),
        pa.field("query", pa.int32(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("setting", pa.string(), nullable=False),
        pa.field("query_key", pa.string(), nullable=False),
        pa.field("support_keys", pa.list_(pa.string()), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("parsed", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("answer_tokens", pa.int32(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("error", pa.string()),
    ]
)
DRAWN_SCHEMA = pa.schema(
    [
        *SCHEMA,
        pa.field("ids", pa.list_(pa.int32())),
        pa.field("png", pa.binary()),
        pa.field("measures", pa.map_(pa.string(), pa.float64())),
    ]
)
"""Of tasks that draw pictures."""
_FOOTER = b"spae.episodes"


@dataclass(frozen=True)
class Question:
    """One query of an episode: the picture's key, the prompt, and the answer that is right."""

    key: str
    prompt: Prompt
    target: str
    error: str = ""
    """Why it cannot be asked; the prompt is empty then."""


@dataclass(frozen=True)
class Episode:
    """One support and the questions that share it."""

    number: int
    support_keys: tuple[str, ...]
    questions: tuple[Question, ...]
    support_names: tuple[str, ...] = ()
    """What the examples are called, where they are called something."""
    names: tuple[str, ...] = ()
    """What an answer may be, where there is a choice."""


@dataclass(frozen=True, kw_only=True)
class ScoredQuery:
    """What summaries need of a question; `error` says why it has no answer, and its score is 0 then."""

    episode: int
    query: int
    query_key: str
    score: float
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class EpisodeRow(ScoredQuery):
    """All that became of a question."""

    seed: int
    setting: str
    support_keys: tuple[str, ...]
    prompt: str
    answer: str
    parsed: str
    target: str
    prompt_tokens: int
    answer_tokens: int
    seconds: float
    ids: tuple[int, ...] | None = None
    """Words of a drawing, layer by layer."""
    png: bytes | None = None
    """The picture that they rebuild."""
    measures: Mapping[str, float] | None = None
    """What was measured of it, by name."""


def episodes_url(output: str, task: str, setting: str, index: int) -> str:
    """Where a file of episodes stands."""
    return join(output, task, setting, f"episodes-{index:06d}.parquet")


def write_episodes(url: str, rows: Sequence[EpisodeRow], footer: Mapping[str, Any]) -> None:
    """Publish rows, whole or not at all."""
    schema = DRAWN_SCHEMA if any(row.measures is not None for row in rows) else SCHEMA
    schema = schema.with_metadata({_FOOTER: json.dumps(footer, sort_keys=True)})
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    with publishing(url) as file:
        pq.write_table(table, file, compression="zstd")


def read_episodes(url: str) -> tuple[list[EpisodeRow], dict[str, Any]]:
    """Rows and footer; ValueError where the file is none of ours."""
    with _opened(url) as (parquet, footer):
        rows = parquet.read(use_threads=False).to_pylist()
        return [_row(row) for row in rows], footer


def _row(values: dict[str, Any]) -> EpisodeRow:
    lists = {name: tuple(values[name]) for name in ("support_keys", "ids") if values.get(name) is not None}
    measures = values.get("measures")
    return EpisodeRow(**{**values, **lists, "measures": None if measures is None else dict(measures)})


def read_measures(url: str) -> list[dict[str, Any]]:
    """Episode, error and measures of each drawing of a file; ValueError where it is none of ours."""
    with _opened(url) as (parquet, _):
        return parquet.read(columns=["episode", "error", "measures"], use_threads=False).to_pylist()


def read_scores(url: str) -> list[ScoredQuery]:
    """What summaries need of the rows, without prompts and answers; ValueError where the file is none of ours."""
    with _opened(url) as (parquet, _):
        columns = [field.name for field in fields(ScoredQuery)]
        return [ScoredQuery(**row) for row in parquet.read(columns=columns, use_threads=False).to_pylist()]


def read_footer(url: str) -> dict[str, Any]:
    """What made a file, without its rows; ValueError where it is none of ours."""
    with _opened(url) as (_, footer):
        return footer


@contextlib.contextmanager
def _opened(url: str) -> Iterator[tuple[pq.ParquetFile, dict[str, Any]]]:
    try:
        with fsspec.open(url, "rb") as file, pq.ParquetFile(file) as parquet:
            yield parquet, json.loads((parquet.schema_arrow.metadata or {})[_FOOTER])
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{url} is no file of episodes ({error!r}); delete it and run the command again") from error


def sheet_url(url: str) -> str:
    """Of the picture of a file's drawings, which stands beside it."""
    return url.removesuffix(".parquet") + ".png"


def finished_files(output: str, task: str, setting: str) -> dict[int, str]:
    """URL of each file of episodes that stands there, by index."""
    folder = join(output, task, setting)
    names = (name for name in list_files(folder) if name.startswith("episodes-") and name.endswith(".parquet"))
    return {int(name.removeprefix("episodes-").removesuffix(".parquet")): join(folder, name) for name in names}
