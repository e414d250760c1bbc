"""Equations 8 and 9 whole, trained once: discriminator, R1, LeCAM, a real perceptual network, guided words.

    python -m jobs.demo_full        after `python -m jobs.demo`; leaves its parts in runs/demo-full

Digits, with the demo's vocabulary and CLIP, and crops of the photographs that packages ship, with a small CLIP that
tells them apart; three seeds each, one after the other. The perceptual network is EfficientNet-Lite0 with its real
weights. The same command continues; figures and curves of what is trained are written after each.
"""

import json
import logging
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from jobs.demos.digits import GUIDED, semantics_flags, vocabulary_flags
from jobs.demos.photographs import NAMES
from jobs.stages import Stage, run_stages

logger = logging.getLogger(__name__)

PRESETS = ("digits-32-full", "photos-64-full")
CURVES = {
    "pixel": "squared error of pixels",
    "perceptual": "squared error of logits",
    "semantic": "semantic loss, nats",
    "dynamic_weight": "dynamic weight",
    "adversarial": "generator's loss",
    "discriminator": "discriminator's loss",
    "gradient_penalty": "R1",
    "validation_psnr": "PSNR on val, dB",
}
CAPTIONS = ("a photo of a {}.", "a picture of a {}.", "a crop of a photo of a {}.", "a {}.")
COLLAPSED_SHARE, LEAST_GAIN = 0.5, 1.2
"""A layer has collapsed in which one word has this share of all, the first aside, or, where nothing guides it, that has
less than so many times the first layer's perplexity: it says the first word again."""


@dataclass(frozen=True, kw_only=True)
class DemoFullFlags:
    """Train the whole objective with several seeds."""

    demo: str = "runs/demo"
    """Folder of a finished `python -m jobs.demo`: its digits, CLIP and vocabulary are used."""
    output: str = "runs/demo-full"
    """Local folder for all parts."""
    presets: tuple[str, ...] = PRESETS
    """Which of the two trainings."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the trainings."""
    steps: int | None = None
    """Training steps, instead of the presets'."""
    checkpoint_every: int = 40
    """Steps between checkpoints and validations."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.presets) - set(PRESETS)):
            raise ValueError(f"--presets {unknown} are none of {', '.join(PRESETS)}")

    def path(self, *names: str) -> str:
        """Of a part of this demo."""
        return str(Path(self.output, *names))

    def inputs(self, preset: str) -> str:
        """Folder of the shards, the CLIP and the vocabulary of a training."""
        return self.demo if preset == PRESETS[0] else self.path("photographs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where a stage failed, 2 where there is no finished demo."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    flags = tyro.cli(DemoFullFlags, args=arguments, description=__doc__)
    if PRESETS[0] in flags.presets and not Path(flags.demo, "vocabulary", "vocabulary.json").is_file():
        logger.error("%s holds no finished demo; run `python -m jobs.demo --output %s` first", flags.demo, flags.demo)
        return 2
    try:
        if PRESETS[1] in flags.presets:
            run_stages(photograph_stages(flags))
        for seed in flags.seeds:
            for preset in flags.presets:
                run_stages(training_stages(flags, preset, seed), cpus=2, at_once=1)
                write_report(flags)
    except RuntimeError as error:
        logger.error("%s; mend it and run the same command again, which continues", error)
        return 1
    sys.stdout.write(Path(flags.path("summary.md")).read_text())
    return 0


def photograph_stages(flags: DemoFullFlags) -> list[Stage]:
    """The crops as shards, a CLIP that tells them apart, and the vocabulary that it judges."""
    folder = flags.inputs(PRESETS[1])
    crops, clip = str(Path(folder, "crops")), str(Path(folder, "clip"))
    stages = [Stage("crops", "jobs.demos.photographs", ("--output", crops))]
    for split in ("train", "val"):
        source: tuple[str, ...] = ("--source", "folder", "--input", str(Path(crops, split)), "--split", split)
        source += ("--output", str(Path(folder, "shards")))
        stages.append(Stage(f"shard {split}", "pipelines.images", source, ("crops",)))
    own: tuple[str, ...] = (
        "--train",
        str(Path(folder, "shards/train")),
        "--val",
        str(Path(folder, "shards/val")),
        "--output",
        clip,
    )
    own += ("--captions", *CAPTIONS, "--minimum-accuracy", "0.8")
    stages.append(Stage("clip", "jobs.demos.clip", own, ("shard train", "shard val")))
    words = (*semantics_flags(clip), *vocabulary_flags(str(Path(folder, "vocabulary")), NAMES))
    stages.append(Stage("vocabulary", "pipelines.vocabulary", words, ("clip",)))
    return stages


def training_stages(flags: DemoFullFlags, preset: str, seed: int) -> list[Stage]:
    """Train and export one model."""
    folder, name = flags.inputs(preset), f"{preset}-{seed}"
    run = flags.path("runs", name)
    own: tuple[str, ...] = ("--shards", f"{folder}/shards/train", "--val-shards", f"{folder}/shards/val")
    own += ("--vocabulary", f"{folder}/vocabulary", "--clip", f"local-dir:{folder}/clip", "--run", run)
    own += GUIDED if preset == PRESETS[0] else ()
    own += ("--perceptual-weights", "efficientnet-lite0@96", "--seed", str(seed), "--log-every", "20")
    own += ("--checkpoint-every", str(flags.checkpoint_every))
    own += () if flags.steps is None else ("--steps", str(flags.steps))
    export = ("--run", run, "--output", flags.path("models", name))
    return [
        Stage(f"train {name}", "jobs.train", (preset, *own), on_cluster=True),
        Stage(f"export {name}", "jobs.export", export, (f"train {name}",)),
    ]


def write_report(flags: DemoFullFlags) -> None:
    """summary.md, summary.json and the curves of every run that the output holds."""
    from jobs.training.run_folder import read_history
    from spae.figures import curves_figure, png_bytes

    found: dict[str, dict[str, Any]] = {}
    for preset in PRESETS:
        runs = sorted(Path(flags.path("runs")).glob(f"{preset}-*/finished.json"))
        histories = {file.parent.name: read_history(str(file.parent)) for file in runs}
        if histories:
            Path(flags.path(f"{preset}.png")).write_bytes(png_bytes(curves_figure(histories, CURVES)))
            found[preset] = {name: seed_figures(history) for name, history in histories.items()}
    Path(flags.path("summary.json")).write_text(json.dumps(found, indent=1))
    Path(flags.path("summary.md")).write_text(summary(found))


def seed_figures(history: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """What a training came to, and the layers that collapsed."""
    last = history[-1]
    depth = max(int(name.removeprefix("words/")) for name in last if name.startswith("words/"))
    layers, guided = range(1, depth + 1), sum(name.startswith("pool_size/") for name in last)

    def collapsed(layer: int) -> bool:
        repeats = layer > guided and last[f"perplexity/{layer}"] < LEAST_GAIN * last["perplexity/1"]
        return repeats or last[f"top_share/{layer}"] > COLLAPSED_SHARE

    return {
        "steps": last["step"],
        "validation_psnr": [[row["step"], row["validation_psnr"]] for row in history if "validation_psnr" in row],
        **{name: last[name] for name in CURVES if name in last and name != "validation_psnr"},
        "perplexity": [last[f"perplexity/{layer}"] for layer in layers],
        "collapsed_layers": [layer for layer in layers[1:] if collapsed(layer)],
        "finite": all(math.isfinite(value) for row in history for value in row.values()),
        "skipped_steps": sum(row["skipped"] for row in history),
    }


def summary(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """A table a training: a row a seed, and the spread of the last PSNR."""
    parts = []
    for preset, seeds in found.items():
        heads = ["seed", "steps", "PSNR on val, dB", "perplexity of the layers", "collapsed layers", "skipped steps"]
        lines = [heads, ["---"] * len(heads)]
        for name, one in seeds.items():
            perplexity = ", ".join(f"{value:.0f}" for value in one["perplexity"])
            psnr, collapsed = f"{one['validation_psnr'][-1][1]:.2f}", ", ".join(map(str, one["collapsed_layers"]))
            own = [name.rsplit("-", 1)[1], str(one["steps"]), psnr, perplexity, collapsed or "none"]
            lines.append([*own, f"{one['skipped_steps']:.0f}"])
        values = [one["validation_psnr"][-1][1] for one in seeds.values()]
        spread = f"PSNR {statistics.mean(values):.2f} dB in the mean, {min(values):.2f} to {max(values):.2f}."
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"# {preset}\n\n{table}\n\n{spread}\n\n![{preset}]({preset}.png)\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
