"""Which frozen networks that measure pictures are here, whence they come, under which licence, and where to put them.

    python -m jobs.judges
    python -m jobs.judges --get inception-v3

Weights are data: a file is checked by its sha256, of pickles and TorchScript only the tensors are read.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from spae.judges.catalogue import CATALOGUE, CatalogueEntry, fetch_weights
from spae.judges.tiny import TinyJudge

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class JudgesFlags:
    """What to do beside listing."""

    get: tuple[str, ...] = ()
    """Judges whose weights are fetched, which means that you agree to their licence."""

    def __post_init__(self) -> None:
        if unknown := [name for name in self.get if name not in CATALOGUE]:
            raise ValueError(f"--get {unknown[0]} is none of {', '.join(CATALOGUE)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where something could not be fetched, 2 for unusable arguments."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        flags = tyro.cli(JudgesFlags, args=arguments, description=__doc__)
    except ValueError as error:
        logger.error("%s", error)
        return 2
    failed = 0
    for name in flags.get:
        try:
            logger.info("%s: %s", name, fetch_weights(CATALOGUE[name]))
        except (ValueError, OSError) as error:
            logger.error("%s", error)
            failed = 1
    sys.stdout.write("\n".join([*map(_described, CATALOGUE.values()), _tiny()]))
    return failed


def _described(entry: CatalogueEntry) -> str:
    here = entry.is_here()
    lines = {
        "measures": ", ".join(entry.figures.values()),
        "weights": f"{entry.source}; sha256 {entry.sha256 or 'not pinned, recorded where it is used'}",
        "licence": entry.licence,
        "place": entry.place or entry.file,
        "to have it": "" if here else entry.remedy,
    }
    return _paragraph(f"{entry.name}: {'here' if here else 'MISSING'}", lines)


def _tiny() -> str:
    record = TinyJudge().record
    lines = {
        "measures": ", ".join(record.figures.values()),
        "weights": f"{record.source}; sha256 {record.sha256}; its figures compare with nothing",
    }
    return _paragraph(f"{record.name}: here", lines)


def _paragraph(head: str, lines: dict[str, str]) -> str:
    return head + "\n" + "".join(f"  {name:11} {text}\n" for name, text in lines.items() if text)


if __name__ == "__main__":
    sys.exit(main())
