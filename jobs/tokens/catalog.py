"""The tables of a folder by name, on this machine's disk instead of in memory: there may be a million."""

import json
import sqlite3
from collections.abc import Iterator, Mapping

from spae.data.token_table import FoundTokenTable, TokenTableFooter


class TableCatalog(Mapping[str, FoundTokenTable]):
    """What a listing found and workers wrote since, sorted by name. It is a mapping that grows by `put`.

    Its file has no name, and goes with the process.
    """

    def __init__(self) -> None:
        self._rows = sqlite3.connect("")
        self._rows.execute(
            "create table tables (name text primary key, footer text, bytes int, problem text, other int)"
        )

    def put(self, name: str, table: FoundTokenTable) -> None:
        """Note a table, instead of an earlier one of its name."""
        footer = table.footer and json.dumps(table.footer.to_metadata())
        values = (name, footer, table.bytes, table.problem, table.foreign)
        self._rows.execute("insert or replace into tables values (?, ?, ?, ?, ?)", values)

    def __getitem__(self, name: str) -> FoundTokenTable:
        row = self._rows.execute("select footer, bytes, problem, other from tables where name = ?", (name,)).fetchone()
        if row is None:
            raise KeyError(name)
        metadata = {key.encode(): value.encode() for key, value in json.loads(row[0]).items()} if row[0] else None
        footer = metadata and TokenTableFooter.from_metadata(metadata)
        return FoundTokenTable(footer or None, row[1], row[2], bool(row[3]))

    def __iter__(self) -> Iterator[str]:
        for (name,) in self._rows.execute("select name from tables order by name"):
            yield name

    def __len__(self) -> int:
        return int(self._rows.execute("select count(*) from tables").fetchone()[0])
