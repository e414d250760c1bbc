"""Rows of token tables in a stream, and documents packed into sequences."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spae.data import token_sequences
from spae.data.token_sequences import Document, matching_tables, pack, shuffled_rows, stream_rows
from spae.data.token_table import TokenRows, read_token_table, write_token_table
from tests.tiny_tokens import token_footer


def write(path, count, first=0, caption=False):
    """A table of so many rows whose ids tell their place."""
    numbers = np.arange(first, first + count, dtype=np.int32)
    ids = (numbers.reshape(-1, 1, 1), np.repeat(numbers, 4).reshape(-1, 2, 2))
    columns = {"caption": pa.array([f"picture {n}" for n in numbers])} if caption else {}
    rows = TokenRows(tuple(f"key-{n}" for n in numbers), tuple(int(n) % 3 for n in numbers), ids, columns)
    write_token_table(str(path), rows, token_footer(samples=count, errors=0, columns=tuple(columns)))
    return str(path)


def test_a_stream_holds_the_rows_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(token_sequences, "ROWS_AT_ONCE", 4)
    url = write(tmp_path / "test-000000.parquet", 10, caption=True)
    parts = list(stream_rows(url, 2, ["caption"]))
    whole, _ = read_token_table(url)
    assert [len(part.keys) for part in parts] == [4, 4, 2]
    assert sum((part.keys for part in parts), ()) == whole.keys
    assert sum((part.labels for part in parts), ()) == whole.labels
    for number, layer in enumerate(whole.layers):
        assert np.array_equal(np.concatenate([part.layers[number] for part in parts]), layer)
    assert parts[2].columns["caption"].to_pylist() == ["picture 8", "picture 9"]


def test_a_stream_holds_little_of_a_large_table(tmp_path):
    def most_held(count):
        before, most = pa.total_allocated_bytes(), 0
        for _ in stream_rows(write(tmp_path / f"{count}.parquet", count), 2):
            most = max(most, pa.total_allocated_bytes() - before)
        return most

    assert most_held(120_000) < 2 * most_held(16_384)


def test_layers_and_columns_that_are_not_stored_are_named(tmp_path):
    url = write(tmp_path / "test-000000.parquet", 3)
    with pytest.raises(ValueError, match="stores 2 layers of 2, not 3"):
        next(stream_rows(url, 3))
    with pytest.raises(ValueError, match="has no column caption; it has no optional ones"):
        next(stream_rows(url, 1, ["caption"]))


def test_an_epoch_holds_every_row_once_and_a_seed_its_order(tmp_path):
    urls = [write(tmp_path / f"{first}.parquet", 5, first) for first in (0, 5, 10)]

    def epoch(seed, number):
        rows = itertools.islice(shuffled_rows(urls, 1, (), seed), 3 * number, 3 * number + 3)
        return [(key, int(ids)) for part in rows for key, ids in zip(part.keys, part.layers[0].ravel(), strict=True)]

    orders = [epoch(0, 0), epoch(0, 1), epoch(1, 0)]
    for order in orders:
        assert sorted(order) == sorted((f"key-{n}", n) for n in range(15))
    assert len(set(map(str, orders))) == 3
    assert epoch(0, 1) == orders[1]


def test_tables_without_rows_end_an_endless_stream(tmp_path):
    with pytest.raises(ValueError, match="hold no rows"):
        next(shuffled_rows([write(tmp_path / "a.parquet", 0)], 1, (), 0))


def test_tables_are_found_by_folder_and_pattern(tmp_path):
    urls = [write(tmp_path / name, 1) for name in ("train-000000.parquet", "val-000000.parquet")]
    for name in ("vocabulary.parquet", "classes.parquet", "manifest.json"):
        (tmp_path / name).write_bytes(b"")
    assert [url.removeprefix("file://") for url in matching_tables(str(tmp_path))] == urls
    assert [url.removeprefix("file://") for url in matching_tables(f"{tmp_path}/val-*.parquet")] == urls[1:]
    with pytest.raises(ValueError, match="names no token tables"):
        matching_tables(f"{tmp_path}/test-*.parquet")


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=9), min_size=1), st.integers(9, 20))
def test_packing_keeps_every_document_whole_and_in_order(masks, length):
    ids = iter(range(1_000))
    documents = [Document(np.array([next(ids) for _ in mask]), np.array(mask)) for mask in masks]
    sequences = list(pack(documents, length))
    assert all(len(sequence.ids) <= length for sequence in sequences)
    assert sum(sequence.documents for sequence in sequences) == len(documents)
    packed = [
        (sequence.ids[part], sequence.learned[part])
        for sequence in sequences
        for part in np.split(np.arange(len(sequence.ids)), np.flatnonzero(sequence.positions == 0)[1:])
    ]
    for (found, learned), document in zip(packed, documents, strict=True):
        assert np.array_equal(found, document.ids)
        assert not learned[0]
        assert np.array_equal(learned[1:], document.learned[1:])
    for one, other in itertools.pairwise(sequences):
        first = np.flatnonzero(other.positions == 0)[1] if other.documents > 1 else len(other.ids)
        assert len(one.ids) + first > length


@pytest.mark.parametrize("count", [0, 11])
def test_a_document_that_fits_nowhere_is_named(count):
    with pytest.raises(ValueError, match=f"a document of {count} tokens fits no sequence of 10"):
        list(pack([Document(np.zeros(count, np.int64), np.ones(count, bool))], 10))
