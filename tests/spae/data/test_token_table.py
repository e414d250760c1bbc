"""Token tables and their footers."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spae.data.records import parquet_bytes
from spae.data.token_table import (
    TokenRows,
    TokenTableFooter,
    read_token_table,
    token_schema,
    write_token_table,
)
from tests.tiny_tokens import token_footer


def test_a_footer_survives_its_text_form():
    footer = token_footer()
    text = {key.encode(): value.encode() for key, value in footer.to_metadata().items()}
    assert TokenTableFooter.from_metadata(text) == footer
    del text[b"spae.grids"]
    with pytest.raises(ValueError, match=r"no spae\.grids"):
        TokenTableFooter.from_metadata(text)


def test_a_footer_of_impossible_layers_is_none():
    text = {key.encode(): value.encode() for key, value in token_footer(layers=3).to_metadata().items()}
    with pytest.raises(ValueError, match="3 layers of 2"):
        TokenTableFooter.from_metadata(text)


def test_rows_and_errors_must_be_the_samples(tmp_path):
    with pytest.raises(ValueError, match=r"1 rows \+ 1 errors are not 3 samples"):
        write_token_table(str(tmp_path / "a.parquet"), TokenRows(("a",), (1,), ()), token_footer())
    assert not (tmp_path / "a.parquet").exists()


def test_a_table_without_rows_is_a_table(tmp_path):
    empty = TokenRows((), (), (np.empty((0, 1, 1), np.int32), np.empty((0, 2, 2), np.int32)))
    write_token_table(str(tmp_path / "a.parquet"), empty, token_footer(samples=1))
    rows, footer = read_token_table(str(tmp_path / "a.parquet"))
    assert (rows.keys, footer.rows) == ((), 0)
    assert [layer.shape for layer in rows.layers] == [(0, 1, 1), (0, 2, 2)]


def test_token_table_reads_its_first_layers_alone():
    schema = token_schema((1, 4))
    assert schema.names == ["key", "label", "clip", "layer_1", "layer_2"]
    rows = [{"key": "a", "label": None, "clip": None, "layer_1": [7], "layer_2": [1, 2, 3, 4]}]
    data = parquet_bytes(pa.Table.from_pylist(rows, schema=schema))
    read = pq.read_table(io.BytesIO(data))
    assert read.schema == schema
    assert read.to_pylist() == rows
    assert pq.read_table(io.BytesIO(data), columns=["layer_1"]).to_pylist() == [{"layer_1": [7]}]
    assert not schema.field("layer_2").nullable
    assert schema.field("layer_2").type.list_size == 4


@pytest.mark.parametrize("sizes", [(), (1, 0)])
def test_token_schema_refuses_empty_layers(sizes):
    with pytest.raises(ValueError, match="layer_sizes"):
        token_schema(sizes)
