"""Check token tables: footers, counts, ids, repeated rows, optional columns, vocabulary, dead letters and manifest.

    python -m jobs.verify_tokens runs/demo/tokens --model runs/demo/model --input runs/demo/shards/test

Reads every table once, on this machine, and changes nothing. Each deviation is named in a line.
"""

import itertools
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs.paths import place
from jobs.tokens.verification import folder_deviations
from spae.data.publishing import join, read_bytes
from spae.data.sources import IMAGE_PATTERNS, find_shards
from spae.data.token_table import VOCABULARY_FILE, FoundTokenTable, find_token_tables
from spae.model import SPAE

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VerifyFlags:
    """Which tables are checked, and against what."""

    tokens: Annotated[str, tyro.conf.Positional]
    """Folder of token tables."""
    model: str | None = None
    """Model folder, by path, URL or hub id, that shall have made them."""
    input: tuple[str, ...] = ()
    """What they shall be the tables of, named as for `jobs.tokenize_shards`: each shard needs a table."""
    files: int = 1_000
    """Images of a folder or of a list that make a shard, as for `jobs.tokenize_shards`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all is well, 1 where there are deviations, 2 for unusable arguments."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        flags = tyro.cli(VerifyFlags, args=arguments, description=__doc__)
        folder = place("TOKENS", flags.tokens)
        tables = find_token_tables(folder)
        if not tables:
            raise ValueError(f"{folder} holds no token tables; give the --output of `python -m jobs.tokenize_shards`")
        checks = [folder_deviations(folder, tables)]
        if flags.model is not None:
            checks.append(model_deviations(folder, tables, SPAE.from_pretrained(flags.model)))
        if flags.input:
            checks.append(input_deviations(tables, flags))
        deviations = 0
        for text in itertools.chain.from_iterable(checks):
            logger.error("%s", text)
            deviations += 1
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return 2
    footers = [table.footer for table in tables.values() if table.footer is not None]
    logger.info(
        "%s: %d tables, %d rows, %d errors; %d deviations",
        *(folder, len(tables), sum(footer.rows for footer in footers), sum(footer.errors for footer in footers)),
        deviations,
    )
    return 1 if deviations else 0


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


def input_deviations(tables: Mapping[str, FoundTokenTable], flags: VerifyFlags) -> Iterator[str]:
    """Shards without a table, or with the table of another shard."""
    for shard in find_shards([place("--input", url) for url in flags.input], flags.files, IMAGE_PATTERNS):
        footer = tables[shard.name].footer if shard.name in tables else None
        if footer is None:
            yield f"{shard.url} has no table"
        elif footer.source_sha256 != shard.sha256:
            yield f"{shard.name}.parquet has source_sha256 {footer.source_sha256}, and {shard.url} has {shard.sha256}"


if __name__ == "__main__":
    sys.exit(main())
