"""Show what a demo folder holds: real test pictures, their words, what the words rebuild, and the scores.

    python -m jobs.report --demo runs/demo
    python -m jobs.report vocabulary URL    # what a vocabulary folder holds, see its --help

Reads shards/test, model and tokens, and where they are there metrics.json, baseline (the model trained without the
semantic loss), the histories of both runs, incontext (what a language model read) and drawings (what it drew). Writes
report.png and report.html.
"""

import json
import logging
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from jobs.reporting import vocabulary as vocabulary_report
from jobs.reporting.drawings import gather_drawings
from jobs.reporting.page import Drawing, PageContent, WordRow, render_page
from jobs.reporting.reading import gather_reading
from jobs.training.run_folder import read_history
from spae.codebook.usage import WordUsage
from spae.data.publishing import join, publish, read_bytes
from spae.data.records import ShardInfo, load_class_names, load_index
from spae.data.token_table import open_token_table
from spae.evaluation.pictures import channels_first, encode_in_batches, join_pyramids, read_pictures
from spae.figures import curves_figure, png_bytes, pyramid_examples, pyramid_figure, usage_figure, word_colours
from spae.model import SPAE
from spae.pyramid import TokenPyramid

PICTURE, PAGE = "report.png", "report.html"
TEST_SPLIT, MODEL, BASELINE, TOKENS, METRICS = "shards/test", "model", "baseline", "tokens", "metrics.json"
READING, DRAWINGS = "incontext", "drawings"
HEADS = {MODEL: "with semantic loss", BASELINE: "without semantic loss"}
CURVES = {
    "pixel": "mean squared error of pixels",
    "semantic": "semantic loss (nats)",
    "commitment": "commitment",
    "validation_psnr": "PSNR on val (dB)",
}
WORD_LAYERS = 3
"""Layers whose words the page writes out."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReportFlags:
    """What to show."""

    demo: str
    """Folder that `python -m jobs.demo` filled; report.png and report.html go there."""
    examples: int = 10
    """Pictures to draw, of as many classes as there are."""

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise ValueError(f"--examples {self.examples} must be at least 1")


@dataclass(frozen=True)
class Example:
    """A sample of the split: its shard, key and label, and its row of the token table."""

    shard: ShardInfo
    key: str
    label: int | None
    pyramid: TokenPyramid


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 2 for unusable arguments."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["vocabulary"]:
        return vocabulary_report.main(arguments[1:])
    try:
        flags = tyro.cli(ReportFlags, args=arguments, description=__doc__)
        content = gather(flags.demo, flags.examples)
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return 2
    publish(join(flags.demo, PICTURE), content.drawings[0].png)
    publish(join(flags.demo, PAGE), render_page(content).encode())
    for note in content.notes:
        logger.warning("%s", note)
    logger.info("wrote %s and %s", join(flags.demo, PICTURE), join(flags.demo, PAGE))
    return 0


def gather(demo: str, count: int) -> PageContent:
    """All that the page shows; ValueError where the folder lacks model, tokens or test shards."""
    model, names = SPAE.from_pretrained(join(demo, MODEL)), load_class_names(join(demo, TEST_SPLIT))
    usage = WordUsage(len(model.vocabulary), model.depth)
    examples = choose_examples(demo, model, usage, max(1, math.ceil(count / max(len(names), 1))))[:count]
    titles = [
        names.get(example.label, example.key) if example.label is not None else example.key for example in examples
    ]
    pictures = load_examples(examples, model.config.input_size)
    pyramid = join_pyramids([example.pyramid for example in examples])
    drawings = [_pyramids(f"Test pictures as words, {HEADS[MODEL]}", model, pictures, pyramid, titles)]
    picture = png_bytes(usage_figure(usage.counts.tolist(), model.vocabulary.word_list))
    drawings.append(Drawing("Which words the layers use", "All of the test split, from the token table.", picture))
    metrics, notes = load_metrics(demo)
    if read_bytes(join(demo, BASELINE, "config.json")) is None:
        notes.append(f"{join(demo, BASELINE)} holds no model, so that there is nothing to compare with.")
    else:
        baseline = SPAE.from_pretrained(join(demo, BASELINE))
        plain = encode_in_batches(baseline, pictures, len(pictures))
        drawings.append(_pyramids(f"The same pictures, {HEADS[BASELINE]}", baseline, pictures, plain, titles))
    return PageContent(
        metrics=metrics,
        heads=HEADS,
        drawings=tuple(drawings + _curves(demo)),
        words=tuple(_word_row(example, title, model) for example, title in zip(examples, titles, strict=True)),
        demo=demo,
        notes=tuple(notes),
        reading=gather_reading(join(demo, READING)),
        drawn=tuple(gather_drawings(join(demo, DRAWINGS))),
    )


def choose_examples(demo: str, model: SPAE, usage: WordUsage, each: int) -> list[Example]:
    """The first samples of every class in the token tables, `each` of a class; counts the words of all on the way."""
    fingerprint = model.fingerprint
    seen: Counter[int | None] = Counter()
    found = []
    for shard in load_index(join(demo, TEST_SPLIT)).shards:
        tokens = open_token_table(join(demo, TOKENS), shard, fingerprint)
        pyramid = TokenPyramid.from_arrays(tokens.layers)
        usage.update(pyramid)
        for row, (key, label) in enumerate(zip(tokens.keys, tokens.labels, strict=True)):
            if seen[label] < each:
                seen[label] += 1
                found.append((seen[label], Example(shard, key, label, pyramid[row : row + 1])))
    if not found:
        raise ValueError(f"the token tables in {join(demo, TOKENS)} hold no rows; there is nothing to show")
    found.sort(key=lambda item: (item[0], math.inf if item[1].label is None else item[1].label))
    return [example for _, example in found]


def load_examples(examples: Sequence[Example], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """The pictures of some samples, uint8 (n, H, W, 3); only their shards are read."""
    found: dict[str, NDArray[np.uint8]] = {}
    keys = {example.key for example in examples}
    for shard in {example.shard.name: example.shard for example in examples}.values():
        for pictures in read_pictures(shard, size):
            found |= {key: pixels for key, pixels in zip(pictures.keys, pictures.pixels, strict=True) if key in keys}
    return np.stack([found[example.key] for example in examples])


def load_metrics(demo: str) -> tuple[dict[str, Any], list[str]]:
    """metrics.json and what is missing in it."""
    data = read_bytes(join(demo, METRICS))
    if data is None:
        return {}, [f"{join(demo, METRICS)} does not exist, so that there are no scores."]
    metrics = json.loads(data)
    return metrics, [f"{METRICS} holds no scores of the {name}." for name in HEADS if name not in metrics]


def _pyramids(
    title: str, model: SPAE, pictures: NDArray[np.uint8], pyramid: TokenPyramid, titles: Sequence[str]
) -> Drawing:
    drawn = pyramid_examples(model, channels_first(pictures), pyramid, titles)
    colours = word_colours(model.vocabulary.embeddings)
    return Drawing(title, "", png_bytes(pyramid_figure(drawn, model.vocabulary.word_list, colours)))


def _curves(demo: str) -> list[Drawing]:
    histories = {head: read_history(join(demo, f"{name}-run")) for name, head in HEADS.items()}
    shown = {
        name: title for name, title in CURVES.items() if any(name in row for rows in histories.values() for row in rows)
    }
    if not shown:
        return []
    return [Drawing("Training", "Logged on the training split.", png_bytes(curves_figure(histories, shown)))]


def _word_row(example: Example, title: str, model: SPAE) -> WordRow:
    words = model.vocabulary.word_list
    grids = [layer.reshape(-1, layer.shape[-1]).tolist() for layer in example.pyramid.layers[:WORD_LAYERS]]
    layers = tuple(tuple(tuple(words[number] for number in line) for line in grid) for grid in grids)
    return WordRow(example.key, title, layers)


if __name__ == "__main__":
    sys.exit(main())
