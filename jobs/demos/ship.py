"""Make the model that comes with spae from a finished demo: its model folder, and a record of what made it.

python -m jobs.demos.ship --demo runs/demo --output spae/pretrained/digits
"""

import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from spae.model import SPAE

RECORD = "record.json"
PURPOSE = (
    "Single handwritten digits, white on black, seen at 32 x 32, as words of a language model. Training saw nothing "
    "else, and the CLIP that chose the first words was trained on the labels: a demonstration, not a recogniser."
)
PICTURES_LICENSE = (
    "CC BY 4.0: Optical Recognition of Handwritten Digits by E. Alpaydin and C. Kaynak, UCI Machine Learning "
    "Repository, its test set as scikit-learn ships it; the folder holds none of the pictures"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ShipFlags:
    """What is shipped, and where to."""

    demo: str = "runs/demo"
    """Local folder that `python -m jobs.demo` filled."""
    output: str = "spae/pretrained/digits"
    """Local folder for the model and record.json; the folder's name is the model's."""
    words_license: str = "Apache-2.0"
    """Of the language model whose words and embeddings the model holds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 2 where there is no finished demo."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    flags = tyro.cli(ShipFlags, args=arguments, description=__doc__)
    try:
        record = ship(Path(flags.demo), Path(flags.output), flags.words_license)
    except (ValueError, OSError) as error:
        logger.error("%s; give a folder in which `python -m jobs.demo` has finished", error)
        return 2
    logger.info("wrote %s, fingerprint %s, made by %s", flags.output, record["model_fingerprint"], record["command"])
    return 0


def ship(demo: Path, output: Path, words_license: str) -> dict[str, Any]:
    """Write the folder, its record last; the record. ValueError where the demo's scores are of another model."""
    scores = json.loads((demo / "metrics.json").read_text())["model"]
    protocol = scores.pop("protocol")
    steps = json.loads((demo / "model-run/config.json").read_text())["config"]["steps"]
    model = SPAE.from_pretrained(str(demo / "model"))
    if model.fingerprint != protocol["model_fingerprint"]:
        raise ValueError(f"{demo}/metrics.json are the scores of {protocol['model_fingerprint']}, not of {demo}/model")
    (output / RECORD).unlink(missing_ok=True)
    model.save_pretrained(str(output))
    files = sorted(path for path in output.rglob("*") if path.is_file())
    words = model.vocabulary.record
    record = {
        "purpose": PURPOSE,
        "command": f"python -m jobs.demo --steps {steps}",
        **{name: protocol[name] for name in ("code_version", "torch", "device", "model_fingerprint")},
        "words_fingerprint": model.vocabulary.words_fingerprint,
        "language_model": {"name": words.llm, "revision": words.llm_revision},
        "licenses": {"model": "Apache-2.0", "words and embeddings": words_license, "pictures": PICTURES_LICENSE},
        "scores": {"split": protocol["split"], **scores},
        "files": {path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }
    (output / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return record


if __name__ == "__main__":
    sys.exit(main())
