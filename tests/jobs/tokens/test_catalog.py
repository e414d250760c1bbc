import dataclasses

import pytest

from jobs.tokens.catalog import TableCatalog
from spae.data.token_table import FoundTokenTable, find_token_tables, publish_manifest
from tests.tiny_tokens import token_footer, tokenize_split

FOOTER = token_footer(columns=("text",), text_layers=1)
TABLES = {
    "b": FoundTokenTable(FOOTER, 7),
    "a": FoundTokenTable(None, 3, "cut"),
    "c": FoundTokenTable(None, 4, "theirs", foreign=True),
}


@pytest.fixture
def catalog():
    made = TableCatalog()
    for name, table in TABLES.items():
        made.put(name, table)
    return made


def test_what_is_put_is_found_sorted_by_name(catalog):
    assert dict(catalog) == TABLES
    assert (list(catalog), len(catalog)) == (["a", "b", "c"], 3)
    assert "d" not in catalog
    with pytest.raises(KeyError):
        catalog["d"]


def test_a_later_table_of_a_name_stands(catalog):
    other = FoundTokenTable(dataclasses.replace(FOOTER, errors=2), 8)
    catalog.put("b", other)
    assert (catalog["b"], len(catalog)) == (other, 3)


def test_reading_goes_on_while_tables_are_put(catalog):
    for name in catalog:
        catalog.put(name, TABLES[name])
    assert len(catalog) == 3


def test_the_manifest_is_the_same_from_the_catalog_and_from_memory(model, split, tmp_path):
    tokenize_split(model, split, tmp_path)
    found, catalog = find_token_tables(str(tmp_path)), TableCatalog()
    for name, table in reversed(found.items()):
        catalog.put(name, table)
    publish_manifest(str(tmp_path), found)
    written = (tmp_path / "manifest.json").read_bytes()
    publish_manifest(str(tmp_path), catalog)
    assert (tmp_path / "manifest.json").read_bytes() == written
