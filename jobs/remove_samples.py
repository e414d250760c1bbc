"""Take samples out of token tables, by their keys.

    python -m jobs.remove_samples runs/demo/tokens --remove keys.txt

Writes anew the tables that hold any of them, each in one step, and the manifest. Their footers count what was removed,
so that `python -m jobs.tokenize_shards` leaves them as they are: only --replace brings removed samples back. While a
tokenizing run or another removal works on the folder it is refused.
"""

import logging
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs.paths import place
from jobs.retries import persistently
from jobs.tokens.folder_lock import BusyError, working_on
from jobs.tokens.removal import remove_rows
from spae.data.publishing import list_files, read_bytes
from spae.data.token_table import find_token_tables, publish_manifest, token_table_url
from spae.progress import tracked

_SIMULTANEOUS_TABLES = 4
"""Each is held whole while it is written."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RemoveFlags:
    """Which samples go, and from where."""

    tokens: Annotated[str, tyro.conf.Positional]
    """Folder of token tables."""
    remove: str
    """Text file of keys, one a line, as they stand in the tables."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where a table cannot be written, 2 for unusable arguments."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        flags = tyro.cli(RemoveFlags, args=arguments, description=__doc__)
        folder, keys = place("TOKENS", flags.tokens), read_keys(place("--remove", flags.remove))
        if not list_files(folder):
            raise ValueError(f"{folder} is empty; give the --output of `python -m jobs.tokenize_shards`")
        with working_on(folder, "jobs.remove_samples", alone=True):
            return remove_samples(folder, keys)
    except BusyError as error:
        logger.error("%s", error)
        return 1
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return 2


def remove_samples(folder: str, keys: frozenset[str]) -> int:
    """Take samples out of all tables of a folder; 0 where all went well, else 1.

    ValueError where there are none, or a damaged one.
    """
    tables = find_token_tables(folder)
    if damaged := [table.problem for table in tables.values() if table.footer is None]:
        raise ValueError(f"{damaged[0]}; delete it, or write it anew with `python -m jobs.tokenize_shards`")
    if not tables:
        raise ValueError(f"{folder} holds no token tables; give the --output of `python -m jobs.tokenize_shards`")

    def remove(name: str) -> int:
        return persistently(f"removing from {name}", lambda: remove_rows(token_table_url(folder, name), keys))

    try:
        with ThreadPoolExecutor(_SIMULTANEOUS_TABLES) as pool:
            removed = list(tracked(pool.map(remove, tables), len(tables), "table"))
        persistently("publishing the manifest", lambda: publish_manifest(folder, find_token_tables(folder)))
    except Exception:  # whatever a store raises: each table is whole, and the same command continues
        logger.exception("not all is removed; give the same command again to continue")
        return 1
    logger.info("%s: %d rows removed from %d tables", folder, sum(removed), sum(map(bool, removed)))
    return 0


def read_keys(url: str) -> frozenset[str]:
    """The lines of a text file; ValueError where there are none or it is no UTF-8."""
    data = read_bytes(url)
    keys = frozenset(line.removesuffix("\r") for line in (data or b"").decode().split("\n")) - {""}
    if not keys:
        raise ValueError(f"--remove {url} holds no keys; give a text file of them, one a line")
    return keys


if __name__ == "__main__":
    sys.exit(main())
