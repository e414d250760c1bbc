"""Tars and Parquet files that cannot be read whole: nobody knows how many inputs are lost with them."""

import logging
from typing import Literal

BrokenContainers = Literal["fail", "skip"]
SHOWN = 10
"""Containers that one message names."""

logger = logging.getLogger(__name__)


class Containers:
    """What one listing finds of its containers: those that are broken, cut, lost or of unknown length."""

    def __init__(self, broken: BrokenContainers) -> None:
        self.broken = broken
        self.damages: list[str] = []

    def note(self, name: str, damage: str) -> None:
        """Remember a container by how much of it could be read; one without damage is sound."""
        if damage:
            self.damages.append(f"{name} ({damage})")

    def close(self) -> None:
        """Name the broken ones: ValueError where they are to fail, else a warning."""
        if not self.damages:
            return
        shown = "; ".join(self.damages[:SHOWN])
        more = f"; and {len(self.damages) - SHOWN} more" if self.damages[SHOWN:] else ""
        found = f"{len(self.damages)} containers cannot be read whole: {shown}{more}"
        if self.broken == "fail":
            raise ValueError(f"{found}. Mend them, or give --broken-containers skip to take what can be read of them")
        logger.warning("%s", found)
