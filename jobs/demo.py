"""The main job on real handwritten digits, end to end: every stage is the command that a user would run.

    python -m jobs.demo        about six minutes on two cores; leaves its parts in runs/demo

Everything was tuned on the validation split; the test split is scored once, at the end.
"""

import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import tyro

from jobs.demos.digits import (
    LANGUAGE_MODEL,
    DemoFlags,
    Training,
    clip_stage,
    cluster_cpus,
    score_stage,
    training_stages,
    vocabulary_flags,
    vocabulary_stage,
)
from jobs.reporting.comparison import compared_figures, comparison_text
from jobs.reporting.reading import gather_reading, reading_text
from jobs.stages import Stage, run_stages

logger = logging.getLogger(__name__)

SPLIT_SEED = 13


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
    figures = compared_figures([scores["model"], scores["baseline"]])
    text = comparison_text(figures, ["with semantic loss", "without"])
    reading = gather_reading(str(folder / "incontext"))
    sys.stdout.write(f"\n{text}\n{reading_text(reading)}\n{time.monotonic() - started:.0f} s\n")
    for title, name in (
        ("picture", "report.png"),
        ("page", "report.html"),
        ("token table", "tokens/test-000000.parquet"),
    ):
        sys.stdout.write(f"{title:12} {folder / name}\n")
    return 0


def demo_stages(flags: DemoFlags) -> list[Stage]:
    """The commands of the demo."""
    stages = [_shard(flags, split) for split in ("train", "val", "test")]
    words = vocabulary_flags(flags.path("words"))
    stages.append(Stage("words", "pipelines.vocabulary", words))
    stages.append(clip_stage(flags, "clip", after=("shard train", "shard val")))
    stages.append(vocabulary_stage(flags, "clip", "vocabulary", after="clip"))
    baseline = Training("baseline", guided=False, vocabulary="words")
    stages += training_stages(flags, baseline, after=("words", "shard train", "shard val"))
    stages += training_stages(flags, Training("model", guided=True), after=("vocabulary",))
    needs: tuple[str, ...] = ("export model", "shard test")
    tokens = ("--model", flags.path("model"), "--input", flags.path("shards/test"), "--output", flags.path("tokens"))
    own = (*tokens, "--workers", str(flags.workers))
    stages.append(Stage("tokenize", "jobs.tokenize_shards", own, needs, on_cluster=True))
    stages.append(score_stage(flags, "model", "scores/model.json", needs))
    stages.append(_reading(flags, after=("export model", "shard train", "shard test")))
    needs = ("export baseline", "vocabulary", "shard test")
    stages.append(score_stage(flags, "baseline", "scores/baseline.json", needs))
    return stages


def _shard(flags: DemoFlags, split: str) -> Stage:
    source = ("--source", "digits", "--output", flags.path("shards"), "--split", split)
    return Stage(f"shard {split}", "pipelines.images", (*source, "--split-seed", str(SPLIT_SEED)))


def _reading(flags: DemoFlags, after: tuple[str, ...]) -> Stage:
    """A short form of `make incontext`: a made-up name for each of five digits, three examples of each."""
    own: tuple[str, ...] = ("--model", flags.path("model"), "--llm", LANGUAGE_MODEL, "--task", "few-shot-made-up")
    own += ("--shards", flags.path("shards/test"), "--support-shards", flags.path("shards/train"))
    own += ("--settings", "5-way-3-shot", "5-way-3-shot+shuffled-words", "--episodes", "5")
    return Stage("read", "jobs.incontext", (*own, "--output", flags.path("incontext")), after)


if __name__ == "__main__":
    sys.exit(main())
