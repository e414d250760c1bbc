"""Train and score rows of the paper's ablation table (Tab. 4), and print it.

    python -m jobs.ablate --preset digits-32 --rows frozen semantic saq-2 pyramid --shards runs/demo/shards/train
    --scored runs/demo/shards/test --vocabulary runs/demo/vocabulary --clip local-dir:runs/demo/clip --output runs/rows

Every row is `python -m jobs.train` with a changed preset, on one Ray cluster, then `jobs.export`, then scores in
OUTPUT/scores. The same command continues: what is trained or scored is not done again.
"""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from jobs.ablation.markdown import ablation_markdown
from jobs.paths import place
from jobs.stages import Stage, run_stages
from spae.ablations import ABLATIONS, PAPER_ROWS, RAW_TABLE_ROWS
from spae.data.publishing import publish
from spae.data.records import load_class_names, load_index
from spae.presets import PRESETS

logger = logging.getLogger(__name__)


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
    """To train with; the table tells of all that OUTPUT holds."""
    steps: int | None = None
    """Training steps, instead of the preset's."""
    clip_weights: str | None = None
    perceptual_weights: str | None = None
    """As in jobs.train: weights of a ResNet-50, or clip."""
    perceptual_weight: float | None = None
    """Instead of the preset's."""
    raw_vocabulary: str | None = None
    """The same words with --table raw, for the rows raw-table and literal."""
    workers: int = 1
    """Ray Train workers a row."""
    at_once: int = 2
    """Rows trained at the same time."""

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"--preset {self.preset!r} is none of {sorted(PRESETS)}")
        if unknown := sorted(set(self.rows) - set(ABLATIONS)):
            raise ValueError(f"--rows {unknown} are unknown; there are {list(ABLATIONS)}")
        if self.raw_vocabulary is None and (raw := sorted(set(self.rows) & set(RAW_TABLE_ROWS))):
            raise ValueError(f"--rows {raw} need --raw-vocabulary: pipelines.vocabulary with --table raw")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where a row failed, 2 for unusable arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    try:
        flags = tyro.cli(AblateFlags, args=arguments, description=__doc__)
        place("--output", flags.output)
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
    text = ablation_markdown(documents, flags.rows)
    Path(flags.output, "table.md").write_text(text)
    sys.stdout.write(text)
    return 0


def training_stages(flags: AblateFlags) -> list[Stage]:
    """The commands that train and export what is not there yet."""
    stages = []
    for row in flags.rows:
        for seed in flags.seeds:
            run, model = _folders(flags, row, seed)
            if Path(model, "config.json").is_file():
                continue
            train, export = f"train {row}-{seed}", f"export {row}-{seed}"
            own = (*_inputs(flags, row), "--run", run, "--ablation", row, "--seed", str(seed))
            stages.append(Stage(train, "jobs.train", (flags.preset, *own), on_cluster=True))
            stages.append(Stage(export, "jobs.export", ("--run", run, "--output", model), (train,)))
    return stages


def _inputs(flags: AblateFlags, row: str) -> tuple[str, ...]:
    """Flags of a row's training that do not depend on the seed."""
    values = {
        "--shards": flags.shards,
        "--vocabulary": flags.raw_vocabulary if row in RAW_TABLE_ROWS else flags.vocabulary,
        "--clip": flags.clip,
        "--clip-weights": flags.clip_weights,
        "--perceptual-weights": flags.perceptual_weights,
        "--objective.perceptual-weight": flags.perceptual_weight,
        "--steps": flags.steps,
        "--workers": flags.workers,
    }
    return tuple(text for name, value in values.items() if value is not None for text in (name, str(value)))


def score_rows(flags: AblateFlags) -> list[dict[str, Any]]:
    """The documents of all rows, scored now or before, with every seed that the output holds."""
    pairs = [(row, seed) for row in flags.rows for seed in flags.seeds]
    missing = [(row, seed) for row, seed in pairs if not _score_file(flags, row, seed).is_file()]
    if missing:
        _score(flags, missing)
    documents = [json.loads(file.read_text()) for file in sorted(Path(flags.output, "scores").glob("*.json"))]
    order = {row: number for number, row in enumerate(flags.rows)}
    wanted = [document for document in documents if document["row"] in order]
    return sorted(wanted, key=lambda document: (order[document["row"]], document["seed"]))


def _score(flags: AblateFlags, missing: Sequence[tuple[str, int]]) -> None:
    from jobs.training.run_folder import RunRecord
    from spae.clip import load_clip
    from spae.evaluation.ablation import ClipStandIn, Splits, score_row  # torch and open_clip, when all is trained
    from spae.evaluation.few_shot import Episodes
    from spae.model import SPAE
    from spae.vocabulary import Vocabulary

    guide = load_clip(flags.clip, flags.clip_weights)
    stand_in = ClipStandIn.create(guide, Vocabulary.load(flags.vocabulary), load_class_names(flags.scored))
    splits = Splits(scored=load_index(flags.scored), support=load_index(flags.shards))
    for row, seed in missing:
        run, model = _folders(flags, row, seed)
        thresholds = RunRecord.load(run).config.objective.semantic_thresholds
        score = score_row(SPAE.from_pretrained(model), stand_in, splits, thresholds, Episodes(seed=seed))
        file = _score_file(flags, row, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        publish(str(file), json.dumps({"row": row, "seed": seed, "clip": guide.name, **score}, indent=1).encode())


def _folders(flags: AblateFlags, row: str, seed: int) -> tuple[str, str]:
    """Of the run and of the model."""
    run, model = (str(Path(flags.output, kind, f"{row}-{seed}")) for kind in ("runs", "models"))
    return run, model


def _score_file(flags: AblateFlags, row: str, seed: int) -> Path:
    return Path(flags.output, "scores", f"{row}-{seed}.json")


if __name__ == "__main__":
    sys.exit(main())
