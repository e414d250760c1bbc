"""Samples of a shard that are not in its table: rows of `errors/{shard}.parquet` beside the tables."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from spae.data.publishing import delete, join, publishing
from spae.data.records import ERRORS_FOLDER
from spae.data.sources import Shard
from spae.data.token_table import TokenTableFooter
from spae.evaluation.pictures import Undecodable

DEAD_LETTERS_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("key", "source", "reason", "detail")]
)
"""Key of the sample, URL of its shard, why it could not be used in words that can be counted, details of this case."""


def dead_letters_url(folder: str, shard: str) -> str:
    """Where the dead letters of a shard stand, if it has any."""
    return join(folder, ERRORS_FOLDER, f"{shard}.parquet")


def publish_dead_letters(folder: str, shard: Shard, errors: Sequence[Undecodable], footer: TokenTableFooter) -> None:
    """Write a shard's dead letters, with the footer of its table; where there are none, those of an attempt before go.

    So do the lines of JSON that earlier versions wrote.
    """
    url = dead_letters_url(folder, shard.name)
    delete(f"{url.removesuffix('parquet')}jsonl")
    if not errors:
        delete(url)
        return
    columns = {
        "key": [error.key for error in errors],
        "source": [shard.url] * len(errors),
        "reason": [error.reason for error in errors],
        "detail": [error.details for error in errors],
    }
    table = pa.table(columns, schema=DEAD_LETTERS_SCHEMA.with_metadata(footer.to_metadata()))
    with publishing(url) as file:
        pq.write_table(table, file, compression="zstd")
