"""A README.md beside the tables by which the datasets library finds them, and not the dead letters, by the folder."""

import json
import re
from collections.abc import Iterable

from spae.data.publishing import join, publish, read_bytes

DATASET_CARD_FILE = "README.md"
_MARK = "---\n# by jobs.tokenize_shards: which tables make which split\n"
_NUMBERED = re.compile(r"(.+)-\d{6}")


def publish_dataset_card(folder: str, tables: Iterable[str]) -> None:
    """Write the card of tables of these names; one that somebody else wrote stays.

    Tables train-000000, train-000001, … are the split train; those without such a number are the split train too.
    """
    url = join(folder, DATASET_CARD_FILE)
    if not (read_bytes(url) or _MARK.encode()).startswith(_MARK.encode()):
        return
    splits: dict[str, set[str]] = {}
    for name in tables:
        numbered = _NUMBERED.fullmatch(name)
        split, files = (numbered[1], f"{numbered[1]}-{'[0-9]' * 6}") if numbered else ("train", name)
        splits.setdefault(re.sub(r"\W", "_", split), set()).add(f"{files}.parquet")
    named = [{"split": split, "path": sorted(patterns)} for split, patterns in sorted(splits.items())]
    configuration = {"configs": [{"config_name": "default", "data_files": named}]}  # JSON is YAML
    publish(url, f"{_MARK}{json.dumps(configuration, indent=1)}\n---\n".encode())
