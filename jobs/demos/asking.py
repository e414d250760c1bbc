"""Tables of what the language model reads or draws in a demo's words: a row a run of `jobs.incontext`."""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.demos.digits import HELD_OUT_MODEL, LANGUAGE_MODEL
from jobs.stages import Stage, run_stages

logger = logging.getLogger(__name__)

TABLE = "table.md"


@dataclass(frozen=True, kw_only=True)
class DemoRun:
    """Who reads or draws which words.

    Attributes:
        title: in the table.
        folder: of its rows, below the output.
        settings: of the task.
        task: of `jobs.incontext`.
        model: below the demo's folder.
        reader: the language model, or a reference.
        flags: further ones, which stand in for those that all runs have.
    """

    title: str
    folder: str
    settings: tuple[str, ...]
    task: str = "few-shot-made-up"
    model: str = "model"
    reader: str = LANGUAGE_MODEL
    flags: tuple[str, ...] = ()

    def stage(self, demo: Path, output: Path, shared: Sequence[str]) -> Stage:
        """Its command, with the flags that all runs have."""
        own: tuple[str, ...] = ("--model", str(demo / self.model), "--llm", self.reader, "--task", self.task)
        own += ("--shards", str(demo / "shards/test"), "--support-shards", str(demo / "shards/train"), *shared)
        own += ("--output", str(output / self.folder), "--settings", *self.settings, *self.flags)
        return Stage(self.folder, "jobs.incontext", own)


def ask_demo(runs: Sequence[DemoRun], demo: Path, output: Path, shared: Sequence[str]) -> int:
    """Make the rows one run after the other; 0 where all went well, 1 where one failed, 2 without a finished demo."""
    if missing := [one.model for one in runs if not Path(demo, one.model, "config.json").is_file()]:
        needed = "jobs.demo_seeds" if missing == [HELD_OUT_MODEL] else "jobs.demo"
        logger.error("%s holds no %s; run `python -m %s` first", demo, missing[0], needed)
        return 2
    try:
        run_stages([one.stage(demo, output, shared) for one in runs], at_once=1)
    except RuntimeError as error:
        logger.error("%s; mend it and run the same command again, which continues", error)
        return 1
    return 0


def make_table(
    runs: Sequence[DemoRun],
    demo: Path,
    output: Path,
    shared: Sequence[str],
    markdown: Callable[[Sequence[DemoRun], Path], str],
) -> int:
    """Make the rows, then write and print the table of them; the status is `ask_demo`'s."""
    if status := ask_demo(runs, demo, output, shared):
        return status
    text = markdown(runs, output)
    (output / TABLE).write_text(text)
    sys.stdout.write(f"\n{text}\n{output / TABLE}\n")
    return 0
