"""Train and score rows of the paper's ablation table (Tab. 4), and print it.

    python -m jobs.ablate --preset digits-32 --rows frozen semantic saq-2 pyramid --shards runs/demo/shards/train
    --scored runs/demo/shards/test --vocabulary runs/demo/vocabulary --clip local-dir:runs/demo/clip --output runs/rows

Every row is `python -m jobs.train` with a changed preset, on one Ray cluster, then `jobs.export`, then scores in
OUTPUT/scores. The same command continues: what is trained or scored is not done again.
"""

import json
import logging
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from jobs.stages import Stage, run_stages
from spae.ablations import ABLATIONS
from spae.presets import PRESETS
from spae.records import load_class_names, load_index

logger = logging.getLogger(__name__)

PAPER_ROWS = tuple(ABLATIONS)[:9]


@dataclass(frozen=True, kw_only=True)
class AblateFlags:
    """Which rows, on what."""

    shards: str
    """Training split."""
    scored: str
    """Split to score; its labels are the classes."""
    vocabulary: str
    """Vocabulary folder with semantics."""
    clip: str
    """open_clip model that judged the vocabulary; it also stands in for networks that are missing."""
    output: str
    """Local folder for runs, models, scores and the table."""
    preset: str = "digits-32"
    """Configuration that the rows change."""
    rows: tuple[str, ...] = PAPER_ROWS
    """Names of rows; the paper's nine by default."""
    seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    """Training steps, instead of the preset's."""
    clip_weights: str | None = None
    perceptual_weights: str | None = None
    """Weights of the perceptual ResNet-50, for presets that weigh it."""
    workers: int = 1
    """Ray Train workers a row."""
    at_once: int = 2
    """Rows trained at the same time."""

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"--preset {self.preset!r} is none of {sorted(PRESETS)}")
        if unknown := sorted(set(self.rows) - set(ABLATIONS)):
            raise ValueError(f"--rows {unknown} are unknown; there are {list(ABLATIONS)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where a row failed, 2 for unusable arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    try:
        flags = tyro.cli(AblateFlags, args=arguments, description=__doc__)
        stages = training_stages(flags)
    except ValueError as error:
        logger.error("%s", error)
        return 2
    try:
        if stages:
            run_stages(stages, cpus=flags.at_once * (flags.workers + 1), at_once=flags.at_once)
        documents = score_rows(flags)
    except (RuntimeError, ValueError) as error:
        logger.error("%s; the same command continues", error)
        return 1
    table = markdown_table(documents, flags.rows)
    Path(flags.output, "table.md").write_text(table)
    sys.stdout.write(table)
    return 0


def training_stages(flags: AblateFlags) -> list[Stage]:
    """The commands that train and export what is not there yet."""
    stages = []
    for row in flags.rows:
        for seed in flags.seeds:
            name = f"{row}-{seed}"
            run, model = (str(Path(flags.output, kind, name)) for kind in ("runs", "models"))
            if Path(model, "config.json").is_file():
                continue
            own: tuple[str, ...] = ("--shards", flags.shards, "--vocabulary", flags.vocabulary, "--clip", flags.clip)
            own += ("--run", run, "--ablation", row, "--seed", str(seed), "--workers", str(flags.workers))
            for flag, value in (
                ("--steps", flags.steps),
                ("--clip-weights", flags.clip_weights),
                ("--perceptual-weights", flags.perceptual_weights),
            ):
                own += (flag, str(value)) if value is not None else ()
            stages.append(Stage(f"train {name}", "jobs.train", (flags.preset, *own), on_cluster=True))
            export = ("--run", run, "--output", model)
            stages.append(Stage(f"export {name}", "jobs.export", export, (f"train {name}",)))
    return stages


def score_rows(flags: AblateFlags) -> list[dict[str, Any]]:
    """The documents of all rows and seeds, scored now or before."""
    from jobs.ablation_scores import RowJudge, Splits, score_row  # torch and open_clip, when all is trained
    from spae.clip import load_clip
    from spae.evaluation.few_shot import Episodes
    from spae.model import SPAE
    from spae.vocabulary import Vocabulary

    judge, documents = None, []
    for row in flags.rows:
        for seed in flags.seeds:
            file = Path(flags.output, "scores", f"{row}-{seed}.json")
            if not file.is_file():
                names = load_class_names(flags.scored)
                guide = judge.guide if judge else load_clip(flags.clip, flags.clip_weights)
                judge = judge or RowJudge.create(guide, Vocabulary.load(flags.vocabulary), names)
                model = SPAE.from_pretrained(str(Path(flags.output, "models", f"{row}-{seed}")))
                splits = Splits(scored=load_index(flags.scored), support=load_index(flags.shards))
                score = score_row(model, judge, splits, Episodes(seed=seed))
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps({"row": row, "seed": seed, "clip": guide.name, **score}, indent=1))
            documents.append(json.loads(file.read_text()))
    return documents


COLUMNS = {
    "FID*": "frechet",
    "IS*": "inception",
    "LPIPS*": "distance",
    "CLIP": "clip_score",
    "5-way*": "few_shot",
    "PSNR": "psnr",
}


def markdown_table(documents: Sequence[dict[str, Any]], rows: Sequence[str]) -> str:
    """The paper's table, a line for each number of layers of each row; means over seeds, with their range."""
    lines = [f"| row | layers: tokens | {' | '.join(COLUMNS)} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for row in rows:
        own = [document for document in documents if document["row"] == row]
        for number in range(len(own[0]["layers"])):
            layers = [document["layers"][number] for document in own]
            cells = [_cell([_value(layer[name]) for layer in layers]) for name in COLUMNS.values()]
            lines.append(f"| {row} | {number + 1}: {layers[0]['tokens']} | {' | '.join(cells)} |")
    clip = documents[0]["clip"].partition(":")[2].rpartition("/")[2] or documents[0]["clip"]
    lines.append(
        f"\n\\* stand-ins, which compare these rows only: the judge is a CLIP ({clip}) and not Inception-v3 or LPIPS, "
        "and 5-way is 1-shot by the nearest class mean of word embeddings, not a language model's. Mean (lowest to "
        f"highest) of {len({document['seed'] for document in documents})} seeds, {documents[0]['samples']} pictures."
    )
    return "\n".join(lines) + "\n"


def _value(entry: Any) -> float | None:
    return entry["accuracy"] * 100 if isinstance(entry, dict) else entry


def _cell(values: Sequence[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "n/a"
    mean = f"{statistics.mean(numbers):.4g}"
    return mean if len(numbers) == 1 else f"{mean} ({min(numbers):.4g} to {max(numbers):.4g})"


if __name__ == "__main__":
    sys.exit(main())
