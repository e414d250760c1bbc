"""Runs of the command on pictures that say their class by what they show, for the tests of its parts."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from jobs import incontext
from spae.data.media import encode_png
from tests.tiny_shards import write_split

SETTING = "2-way-1-shot"


def pictures(each: int, name: str):
    """Of every class the same picture again and again."""
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    return [(f"{name}-{label}-{n}", encode_png(blocks[label]), label) for n in range(each) for label in range(3)]


def save_splits(root: Path) -> Path:
    """Folders train and test."""
    write_split(root / "train", [pictures(5, "a"), pictures(3, "b")], "train")
    write_split(root / "test", [pictures(4, "c")])
    return root


def arguments(folder, model, output, *flags):
    """Of the command, asking nearest-context in one setting unless told otherwise."""
    places = {"--model": model, "--shards": folder / "test", "--support-shards": folder / "train", "--output": output}
    whole = [str(part) for pair in places.items() for part in pair]
    return [*whole, "--llm", "nearest-context", "--settings", SETTING, "--episodes", "4", *map(str, flags)]


def run(folder, model, output, *flags):
    """The command in this process; its status."""
    return incontext.main(arguments(folder, model, output, *flags))


def rows(output):
    """All rows below a folder, without the time they took."""
    files = sorted(Path(output).rglob("episodes-*.parquet"))
    return [row for file in files for row in pq.read_table(file).drop_columns("seconds").to_pylist()]
