"""What labels mean, beside the tables."""

import logging
from collections.abc import Sequence

from spae.data.publishing import join, read_bytes
from spae.data.records import CLASSES_FILE, load_classes, save_classes
from spae.data.sources import Shard, find_classes

logger = logging.getLogger(__name__)


def publish_classes(shards: Sequence[Shard], output: str) -> None:
    """Put classes.parquet beside the tables, unless that would give a label two meanings: then a warning says so."""
    url = join(output, CLASSES_FILE)
    try:
        classes = find_classes(shards)
        before = load_classes(url) if read_bytes(url) is not None else ()
        meanings = {row.label: row for row in before}
        for row in classes:
            if meanings.setdefault(row.label, row) != row:
                raise ValueError(f"label {row.label} is {row.name} here and {meanings[row.label].name} in {url}")
    except ValueError as error:
        logger.warning("%s is left as it is: %s", url, error)
        return
    if len(meanings) > len(before):
        save_classes(output, [meanings[label] for label in sorted(meanings)])
