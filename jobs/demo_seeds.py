"""How far the demo's figures depend on the seed, and what the first words say of digits that nothing was trained on.

    python -m jobs.demo_seeds      after `python -m jobs.demo`; about as long again

Two more seeds train with semantic loss. Then 3 and 7 are held out of the small CLIP and of the tokenizer's
training, and the words of the test split's threes and sevens are counted.
"""

import collections
import json
import logging
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from jobs.demos.digits import (
    DIGITS,
    HELD_OUT,
    HELD_OUT_MODEL,
    DemoFlags,
    Training,
    clip_stage,
    cluster_cpus,
    score_stage,
    training_stages,
    vocabulary_stage,
)
from jobs.stages import Stage, run_stages
from spae.data.augmentation import load_pictures
from spae.data.records import load_index
from spae.data.tar import read_samples
from spae.model import SPAE

logger = logging.getLogger(__name__)

SEEDS = (1, 2)  # besides the demo's own, which is 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where a stage failed, 2 where there is no finished demo."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    demo = tyro.cli(DemoFlags, args=arguments, description=__doc__)
    folder = Path(demo.output)
    if not (folder / "metrics.json").is_file():
        logger.error("%s holds no finished demo; run `python -m jobs.demo --output %s` first", folder, folder)
        return 2
    write_class_folders(str(folder / "shards/train"), folder / "seeds/eight-digits")
    try:
        run_stages([*seed_stages(demo), *held_out_stages(demo)], cluster_cpus(demo), at_once=2)
    except RuntimeError as error:
        logger.error("%s; mend it and run the same command again, which continues", error)
        return 1
    files = [folder / "scores/model.json", *(folder / f"seeds/model-{seed}.json" for seed in SEEDS)]
    scores = [json.loads(file.read_text()) for file in files]
    unseen = first_words(SPAE.from_pretrained(str(folder / HELD_OUT_MODEL)), str(folder / "shards/test"))
    (folder / "seeds.json").write_text(json.dumps({"scores": scores, "held_out": unseen}, indent=1))
    sys.stdout.write(summary(scores, unseen))
    return 0


def seed_stages(demo: DemoFlags) -> list[Stage]:
    """Train and score a model a seed."""
    stages = [Stage("verify", "pipelines.verify", (f"{demo.output}/shards/train",))]
    for seed in SEEDS:
        training = Training(f"seeds/model-{seed}", True, seed)
        stages += training_stages(demo, training, after=("verify",))
        stages.append(score_stage(demo, training.folder, f"seeds/model-{seed}.json", (f"export model-{seed}",)))
    return stages


def held_out_stages(demo: DemoFlags) -> list[Stage]:
    """Train CLIP and tokenizer without the held-out digits."""
    folder = Path(demo.output)
    pictures, shards = folder / "seeds/eight-digits", folder / "seeds/shards"
    source = ("--source", "folder", "--input", str(pictures), "--output", str(shards), "--split", "train")
    training = Training(HELD_OUT_MODEL, True, 0, "seeds/shards/train", "seeds/clip", "seeds/vocabulary")
    return [
        Stage("shard eight", "pipelines.images", source),
        clip_stage(demo, training.clip, "--hold-out", ",".join(map(str, HELD_OUT)), after=("shard eight",)),
        vocabulary_stage(demo, training.clip, training.vocabulary, after="clip"),
        *training_stages(demo, training, after=("vocabulary",)),
    ]


def write_class_folders(split: str, folder: Path) -> Path:
    """The pictures of a split as class folders, without the held-out digits; the folder."""
    for shard in load_index(split).shards:
        for sample in read_samples(shard.url):
            if sample.label is not None and sample.label not in HELD_OUT:
                target = folder / DIGITS[sample.label] / f"{sample.key}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(sample.media)
    return folder


def first_words(model: SPAE, split: str) -> dict[str, dict[str, int]]:
    """For each held-out digit, how often each word came first, most frequent first."""
    found: dict[str, dict[str, int]] = {}
    samples = [sample for shard in load_index(split).shards for sample in read_samples(shard.url)]
    for label in HELD_OUT:
        media = [sample.media for sample in samples if sample.label == label]
        pyramid = model.encode(load_pictures(media, model.config.input_size))
        words = [row[0] for row in model.vocabulary.words(pyramid, layers=1)]
        found[DIGITS[label]] = dict(collections.Counter(words).most_common())
    return found


def summary(scores: Sequence[dict[str, Any]], unseen: dict[str, dict[str, int]]) -> str:
    """Means and ranges over the seeds, and the words of the unseen digits."""
    lines = [f"\n{len(scores)} seeds, test split: mean (lowest to highest)"]
    for title, values in {
        "first word is the digit's name, %": [100 * one["first_word"]["share"] for one in scores],
        "PSNR of all layers, dB": [one["layers"][-1]["psnr"] for one in scores],
        "perplexity of the last layer": [one["layers"][-1]["usage"]["perplexity"] for one in scores],
    }.items():
        lines.append(f"  {title:34} {statistics.mean(values):6.1f} ({min(values):.1f} to {max(values):.1f})")
    for digit, words in unseen.items():
        most = ", ".join(f"{word} {count}" for word, count in list(words.items())[:8])
        lines.append(f"first words of {digit}, which nothing was trained on: {most}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
