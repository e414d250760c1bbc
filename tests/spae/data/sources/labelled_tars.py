"""Tars of labelled pictures as webdataset's own writers make them, and the source that reads them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spae.data.sources import Source, SourceSettings
from tests.image_layouts import jpegs

LIMIT = 1 << 24
PICTURES = jpegs(12)


def source(url: Path | str, annotations: Path | str = "", **settings: Any) -> Source:
    """The tars of a folder or pattern."""
    values = {"name": "webdataset", "split": "train", **settings}
    return SourceSettings(url=str(url), annotations=str(annotations), **values).open()


def labelled(first: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Members as webdataset's own writers order them: sorted by suffix inside of a sample."""
    for number in range(first, first + count):
        yield f"{number:06d}.cls", b"%d" % (number % 3)
        yield f"{number:06d}.jpg", PICTURES[number]
        yield f"{number:06d}.json", json.dumps({"n": number}).encode()
