"""Videos of moving digits, end to end: a video model that begins from the demo's image model, and one from scratch.

    python -m jobs.demo_video        after `python -m jobs.demo`; leaves its parts in runs/demo-video

Every stage is the command that a user would run; the last one measures what the words of the clips tell.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from jobs.demos.digits import GUIDED, TUNED
from jobs.stages import Stage, run_stages

logger = logging.getLogger(__name__)

STARTS = ("inflated", "scratch")
SPLITS = ("train", "val", "test")
PROBED_LAYERS = 4
"""The first that cover the grid."""
SHOWN = 6
"""Clips in the pictures: originals, and what four and five layers give."""


@dataclass(frozen=True, kw_only=True)
class DemoVideoFlags:
    """Shard videos, train from an image model and from scratch, score, report."""

    demo: str = "runs/demo"
    """Folder of a finished `python -m jobs.demo`: its image model, CLIP and vocabulary are used."""
    output: str = "runs/demo-video"
    """Local folder for all parts."""
    steps: int = 160
    """Training steps of each model, for trials."""
    limit: int | None = None
    """Digits a split, for trials."""
    workers: int = 1
    """Ray workers a training; the two trainings run at once."""
    seed: int = 0
    """Of the trainings."""

    def path(self, name: str) -> str:
        """Of a part of this demo."""
        return str(Path(self.output, name))

    def image(self, name: str) -> str:
        """Of a part of the demo on images."""
        return str(Path(self.demo, name))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where a stage failed, 2 where there is no finished demo."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    flags, started = tyro.cli(DemoVideoFlags, args=arguments, description=__doc__), time.monotonic()
    if not Path(flags.image("model"), "config.json").is_file():
        logger.error("%s holds no finished demo; run `python -m jobs.demo --output %s` first", flags.demo, flags.demo)
        return 2
    try:
        seconds = run_stages(demo_stages(flags), cpus=2 * (flags.workers + 1))
        document = {**measure(flags), "seconds": seconds}
    except RuntimeError as error:
        logger.error("%s; mend it and run the same command again, which continues", error)
        return 1
    Path(flags.path("metrics.json")).write_text(json.dumps(document, indent=1))
    pictures = ", ".join(flags.path(name) for name in ("curves.png", "inflated-strip.png", "inflated-moving.png"))
    sys.stdout.write(f"\n{summary(document)}\n{time.monotonic() - started:.0f} s\npictures {pictures}\n")
    return 0


def demo_stages(flags: DemoVideoFlags) -> list[Stage]:
    """The commands of the demo."""
    limit = () if flags.limit is None else ("--limit", str(flags.limit))
    stages = [Stage("videos", "jobs.demos.moving_digits", ("--output", flags.path("videos"), *limit))]
    for split in SPLITS:
        own: tuple[str, ...] = ("--source", "folder", "--input", flags.path(f"videos/{split}"), "--split", split)
        own += ("--output", flags.path("shards"))
        stages.append(Stage(f"shard {split}", "pipelines.videos", own, ("videos",)))
    for start in STARTS:
        stages += _training(flags, start)
    return stages


def _training(flags: DemoVideoFlags, start: str) -> list[Stage]:
    """Train, export and score one model."""
    run, model = flags.path(f"{start}-run"), flags.path(start)
    own: tuple[str, ...] = ("--shards", flags.path("shards/train"), "--val-shards", flags.path("shards/val"))
    own += ("--vocabulary", flags.image("vocabulary"), "--clip", f"local-dir:{flags.image('clip')}", "--run", run)
    own += ("--steps", str(flags.steps), "--seed", str(flags.seed), "--workers", str(flags.workers), *TUNED, *GUIDED)
    own += ("--log-every", "20", "--checkpoint-every", "20")
    if start == "inflated":
        own += ("--image-model", flags.image("model"))
    scored = ("--model", model, "--shards", flags.path("shards/test"), "--output", flags.path(f"{start}.json"))
    needs = tuple(f"shard {split}" for split in SPLITS)
    return [
        Stage(f"train {start}", "jobs.train", ("digits-video", *own), needs, on_cluster=True),
        Stage(f"export {start}", "jobs.export", ("--run", run, "--output", model), (f"train {start}",)),
        Stage(f"score {start}", "jobs.evaluate", scored, (f"export {start}",)),
    ]


def measure(flags: DemoVideoFlags) -> dict[str, Any]:
    """All figures of the demo, and its pictures."""
    from jobs.demos.motion import motion_score, psnr_by_words, read_moving_digits
    from jobs.demos.moving_digits import RATE
    from jobs.reporting.clips import clip_rows, moving_picture, strip_png
    from jobs.training.run_folder import read_history
    from spae.figures import curves_figure, png_bytes
    from spae.model import SPAE

    train, test = flags.path("shards/train"), flags.path("shards/test")
    document: dict[str, Any] = {}
    for start in STARTS:
        model = SPAE.from_pretrained(flags.path(start))
        document[start] = json.loads(Path(flags.path(f"{start}.json")).read_text())
        document[start]["motion"] = motion_score(model, train, test, PROBED_LAYERS)
        clips = read_moving_digits(model, test).pixels
        document[start]["psnr_by_words"] = psnr_by_words(model, clips)
        rows = clip_rows(model, clips[:SHOWN], range(PROBED_LAYERS, model.depth + 1))
        Path(flags.path(f"{start}-strip.png")).write_bytes(strip_png(rows))
        Path(flags.path(f"{start}-moving.png")).write_bytes(moving_picture(rows, RATE))
    document["image_model"] = {"psnr_by_words": psnr_by_words(SPAE.from_pretrained(flags.image("model")), clips)}
    histories = {start: read_history(flags.path(f"{start}-run")) for start in STARTS}
    titles = {"validation_psnr": "validation PSNR, dB", "pixel": "squared error of pixels", "semantic": "semantic loss"}
    Path(flags.path("curves.png")).write_bytes(png_bytes(curves_figure(histories, titles)))
    document["validation_psnr"] = {
        start: [[row["step"], row["validation_psnr"]] for row in rows if "validation_psnr" in row]
        for start, rows in histories.items()
    }
    return document


def summary(document: Mapping[str, Any]) -> str:
    """The figures in a few lines."""
    lines = []
    for start in STARTS:
        score, motion = document[start], document[start]["motion"]
        lines += [
            f"{start}: {_psnr(score)}",
            f"  first word names the digit: {_percent(score['first_word'])}",
            *(
                f"  {motion['layers']} layers of clips {frames} tell the motion: {_percent(motion[order]['motion'])}; "
                f"left from right, up from down: {_percent(motion[order]['direction'])}"
                for order, frames in (("in_order", "as they are"), ("shuffled", "with shuffled frames"))
            ),
        ]
    return "\n".join([*lines, f"image model, frame by frame: {_psnr(document['image_model'])}"])


def _psnr(score: Mapping[str, Any]) -> str:
    return ", ".join(f"{row['words']} words {row['psnr']:.2f} dB" for row in score["psnr_by_words"])


def _percent(share: Mapping[str, Any]) -> str:
    return f"{100 * share['share']:.1f}%"


if __name__ == "__main__":
    sys.exit(main())
