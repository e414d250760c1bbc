"""The mark of a try to write a shard: `{shard}.attempt` beside its tar, which goes when the try ends, well or not.

A mark that stays is of a try whose process died. It says how many died so, one after the other, and how far the try
that is under way has come.
"""

import contextlib
import json
import time
from collections.abc import Iterable

import fsspec

from spae.data.publishing import delete, join, publish, read_bytes

MARK_SUFFIX = ".attempt"
SECONDS_BETWEEN = 5.0
"""Between two marks of one try; a store takes one write a second of a file."""


class Attempt(contextlib.AbstractContextManager["Attempt"]):
    """A try to write one shard: marked while the block runs.

    Attributes:
        deaths: tries before this whose process died.
    """

    def __init__(self, folder: str, shard: str) -> None:
        self._url = join(folder, f"{shard}{MARK_SUFFIX}")
        self.deaths = _numbers(read_bytes(self._url) or b"")[0]

    def __enter__(self) -> "Attempt":
        self._mark(0)
        return self

    def __exit__(self, *exception: object) -> None:
        delete(self._url)

    def done(self, inputs: int) -> None:
        """Note how many inputs are done, now and then."""
        if time.monotonic() - self._marked >= SECONDS_BETWEEN:
            self._mark(inputs)

    def _mark(self, inputs: int) -> None:
        self._marked = time.monotonic()
        publish(self._url, json.dumps({"tries": self.deaths + 1, "inputs": inputs}).encode())


def inputs_under_way(folder: str, files: Iterable[str]) -> dict[str, int]:
    """How many inputs of which shards are done in tries that are marked among the files of a folder."""
    file_system, path = fsspec.url_to_fs(folder)
    marks = [name for name in files if name.endswith(MARK_SUFFIX)]
    if not marks:
        return {}
    found = file_system.cat([f"{path.rstrip('/')}/{name}" for name in marks], on_error="return")
    contents = (found.get(f"{path.rstrip('/')}/{name}") for name in marks)
    return {
        name.removesuffix(MARK_SUFFIX): _numbers(content)[1]
        for name, content in zip(marks, contents, strict=True)
        if isinstance(content, bytes)
    }


def _numbers(mark: bytes) -> tuple[int, int]:
    """Tries and inputs that a mark tells; none where it is damaged."""
    try:
        values = json.loads(mark)
        return int(values["tries"]), int(values["inputs"])
    except (ValueError, KeyError, TypeError):
        return 0, 0
