"""Token tables as sequences for a language model: rows in a stream, texts packed behind each other and never mixed.

Works without torch, and holds some thousand rows of a table at a time.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import fsspec
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spae.data.publishing import join
from spae.data.records import CLASSES_FILE
from spae.data.token_table import VOCABULARY_FILE, TokenRows, TokenTableFooter, rows_of_table

ROWS_AT_ONCE = 1_024


@dataclass(frozen=True)
class Document:
    """One text as token ids int64 (n,), and bool (n,) which of them are learned: the loss mask."""

    ids: NDArray[np.int64]
    learned: NDArray[np.bool_]


@dataclass(frozen=True)
class TokenSequence:
    """Documents one behind the other.

    Attributes:
        ids: int64 (n,).
        positions: int64 (n,), from 0 on in each document: by them a model keeps documents apart.
        learned: bool (n,), never of the first token of a document, before which there is nothing.
        documents: how many.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    learned: NDArray[np.bool_]
    documents: int


def matching_tables(url: str) -> list[str]:
    """The token tables in a folder, or those that a pattern names, as sorted URLs; ValueError where there are none."""
    file_system, path = fsspec.url_to_fs(url)
    pattern = join(path, "*.parquet") if file_system.isdir(path) else path
    found = [
        name for name in file_system.glob(pattern) if name.rsplit("/", 1)[-1] not in (VOCABULARY_FILE, CLASSES_FILE)
    ]
    if not found:
        raise ValueError(
            f"{url} names no token tables; give a folder of them, or a pattern such as tokens/train-*.parquet"
        )
    return [str(file_system.unstrip_protocol(name)) for name in sorted(found)]


def stream_rows(url: str, layers: int, columns: Sequence[str] = ()) -> Iterator[TokenRows]:
    """The rows of a table in parts of some thousand, with the first layers and some of the optional columns alone.

    ValueError where these are not stored.
    """
    with fsspec.open(url, "rb") as file:
        parquet = pq.ParquetFile(file)
        footer = TokenTableFooter.from_metadata(parquet.metadata.metadata or {})
        if missing := sorted({*columns} - {*footer.columns}):
            raise ValueError(
                f"{url} has no column {missing[0]}; it has {', '.join(footer.columns) or 'no optional ones'}"
            )
        grids = footer.stored_grids(url, layers)
        wanted = footer.columns_to_read(len(grids), columns)
        for part in parquet.iter_batches(ROWS_AT_ONCE, columns=wanted, use_threads=False):
            yield rows_of_table(part, grids, columns)


def shuffled_rows(urls: Sequence[str], layers: int, columns: Sequence[str], seed: int) -> Iterator[TokenRows]:
    """Epoch after epoch the rows of tables: the tables in a drawn order, and the rows of each part (see `stream_rows`).

    ValueError where the tables hold no rows.
    """
    for epoch in itertools.count():
        draws, rows = np.random.default_rng((seed, epoch)), 0
        for table in draws.permutation(len(urls)):
            for part in stream_rows(urls[table], layers, columns):
                yield part.take(draws.permutation(len(part.keys)))
                rows += len(part.keys)
        if not rows:
            raise ValueError(f"{urls[0]} and {len(urls) - 1} other tables hold no rows")


def pack(documents: Iterable[Document], length: int) -> Iterator[TokenSequence]:
    """Whole documents in their order, as many in a sequence as fit into `length` tokens.

    ValueError for a document that alone is longer, or empty.
    """
    held: list[Document] = []
    for document in documents:
        if not 0 < len(document.ids) <= length:
            raise ValueError(
                f"a document of {len(document.ids)} tokens fits no sequence of {length}; take fewer layers"
            )
        if sum(len(one.ids) for one in held) + len(document.ids) > length:
            yield _joined(held)
            held = []
        held.append(document)
    if held:
        yield _joined(held)


def _joined(documents: Sequence[Document]) -> TokenSequence:
    positions = np.concatenate([np.arange(len(one.ids)) for one in documents])
    learned = np.concatenate([one.learned for one in documents]) & (positions > 0)
    return TokenSequence(np.concatenate([one.ids for one in documents]), positions, learned, len(documents))
