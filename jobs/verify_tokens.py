"""Check token tables: footers, counts, ids, repeated rows, optional columns, vocabulary, dead letters and manifest.

    python -m jobs.verify_tokens runs/demo/tokens --model runs/demo/model --input runs/demo/shards/test

Reads every table once, on this machine, and changes nothing. Each deviation is named in a line.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs.paths import place
from jobs.tokens.verification import log_deviations
from spae.data.sources import IMAGE_PATTERNS, VIDEO_PATTERNS, find_shards
from spae.data.token_table import find_token_tables
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
        model = None if flags.model is None else SPAE.from_pretrained(flags.model)
        inputs = [place("--input", url) for url in flags.input]
        of_videos = any(table.footer is not None and table.footer.is_of_videos for table in tables.values())
        patterns = VIDEO_PATTERNS if of_videos else IMAGE_PATTERNS
        shards = find_shards(inputs, flags.files, patterns) if inputs else ()
        return 1 if log_deviations(folder, tables, model, shards) else 0
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
