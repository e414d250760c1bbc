"""Export a run's averaged weights as a model folder."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro

from jobs.paths import place
from jobs.training.run_folder import load_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """Export the averaged weights of a run's newest, or best, checkpoint as a model folder.

    Example: python -m jobs.export --run runs/digits --output runs/model
    """

    run: str
    """Run folder of `jobs.train`."""
    output: str
    """Model folder to write; SPAE.from_pretrained reads it."""
    checkpoint: Literal["latest", "best"] = "latest"
    """best: the one with the highest PSNR on validation pictures."""
    vocabulary: str | None = None
    """Vocabulary folder, if it moved since training."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 well, 2 unusable arguments."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    flags = tyro.cli(ExportFlags, args=arguments)
    try:
        output = place("--output", flags.output)
        model, step = load_run(flags.run, flags.vocabulary, flags.checkpoint)
    except ValueError as error:
        logger.error("%s", error)
        return 2
    model.save_pretrained(output)
    logger.info("wrote %s: step %d, fingerprint %s", output, step, model.fingerprint[:16])
    return 0


if __name__ == "__main__":
    sys.exit(main())
