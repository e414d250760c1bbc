"""Some of the shards that a command found: --shards and --limit."""

import re
from collections.abc import Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")


def check_range(shards: str | None) -> None:
    """ValueError where --shards is given and no range."""
    if shards is not None and not re.fullmatch(r"\d+\.\.\d+", shards):
        raise ValueError(f"--shards {shards} must be two numbers such as 0..9, the first and the last one")


def chosen(found: Sequence[ItemT], shards: str | None, limit: int | None = None) -> Sequence[ItemT]:
    """Those of a range such as 0..9, both ends included, and of these the first `limit`; ValueError for none."""
    if shards is not None:
        first, last = map(int, shards.split(".."))
        if not (taken := found[first : last + 1]):
            raise ValueError(f"--shards {shards} takes none of the {len(found)} shards, 0..{len(found) - 1}")
        found = taken
    return found[:limit]
