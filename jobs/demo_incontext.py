"""The frozen language model that owns the demo's words reads them: six cells with controls, or the whole table.

    python -m jobs.demo_incontext            after `python -m jobs.demo`; about twenty minutes on two cores
    python -m jobs.demo_incontext --whole    after `python -m jobs.demo_seeds` too; hours, for docs/incontext.md

Every row of the table is a run of `jobs.incontext` on the same episodes, of test pictures with examples from the
training split. A cut run continues.
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from jobs.demos.asking import DemoRun, make_table
from jobs.demos.digits import DIGITS, HELD_OUT, HELD_OUT_MODEL
from spae.incontext.prompts import SETTINGS

CELLS = tuple(f"{ways}-way-{shots}-shot" for ways in (2, 5) for shots in (1, 3, 5))
CURVE = ("5-way-1-shot", "5-way-3-shot")
"""Settings that are asked of each number of layers, as in Fig. 3."""


@dataclass(frozen=True, kw_only=True)
class DemoIncontextFlags:
    """Which rows, and of which demo."""

    demo: str = "runs/demo"
    """Folder of a finished demo."""
    output: str = ""
    """Folder for rows and table; without, reading in the demo's."""
    whole: bool = False
    """All fourteen settings, and of the six cells all controls; references, numbers of layers as in Fig. 3, and the
    digits that nothing saw."""
    episodes: int = 50
    """Supports a setting, eight queries each."""
    layers: int = 2
    """First layers whose words are told; five words."""


def controlled(*controls: str) -> tuple[str, ...]:
    """The six cells with each control."""
    return tuple(f"{setting}+{control}" for control in controls for setting in CELLS)


SIX_CELLS = (
    DemoRun(title="words", folder="words", settings=(*CELLS, *controlled("permuted-labels", "shuffled-words"))),
    DemoRun(title="words of the model without semantic loss", folder="unguided", settings=CELLS, model="baseline"),
)


def whole_table() -> tuple[DemoRun, ...]:
    """Every row of docs/incontext.md."""
    all_settings = tuple(SETTINGS)
    controls = ("permuted-labels", "shuffled-words", "random-table", "names-as-words")
    unseen = ("--classes", *(DIGITS[label] for label in HELD_OUT))
    two_ways = tuple(name for name, setting in SETTINGS.items() if setting.ways == len(HELD_OUT))
    return (
        DemoRun(title="words", folder="words", settings=(*all_settings, *controlled(*controls))),
        DemoRun(
            title="words of the model without semantic loss",
            folder="unguided",
            settings=(*all_settings, *controlled("shuffled-words")),
            model="baseline",
        ),
        DemoRun(title="real names: copying", folder="real", settings=CELLS, task="few-shot-real"),
        DemoRun(title="names of other things", folder="other", settings=CELLS, task="few-shot-other"),
        *(
            DemoRun(title=f"reference: {name}", folder=name, settings=all_settings, reader=name)
            for name in ("nearest-context", "raw-pixels", "k-means-words")
        ),
        *(
            DemoRun(
                title=f"words of {count} layers",
                folder=f"layers-{count}",
                settings=CURVE,
                flags=("--layers", str(count)),
            )
            for count in (1, 3, 4, 5)
        ),
        DemoRun(
            title="digits that neither CLIP nor tokenizer saw",
            folder="unseen",
            settings=two_ways,
            model=HELD_OUT_MODEL,
            flags=unseen,
        ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where a run failed, 2 without a finished demo."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    flags = tyro.cli(DemoIncontextFlags, args=arguments, description=__doc__)
    readers = whole_table() if flags.whole else SIX_CELLS
    output = Path(flags.output or Path(flags.demo, "reading"))
    return make_table(readers, Path(flags.demo), output, shared_flags(flags), markdown)


def shared_flags(flags: DemoIncontextFlags) -> tuple[str, ...]:
    """Of all runs."""
    return "--layers", str(flags.layers), "--episodes", str(flags.episodes)


def markdown(readers: Sequence[DemoRun], output: Path) -> str:
    """The table: a line a reader and control, a column a setting that any of them has."""
    lines = list(_lines(readers, output))
    columns = [name for name in SETTINGS if any(name in cells for _, cells in lines)]
    head = f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}\n"
    return head + "".join(
        f"| {title} | {' | '.join(_cell(cells.get(name)) for name in columns)} |\n" for title, cells in lines
    )


def _lines(readers: Sequence[DemoRun], output: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for one in readers:
        scores = json.loads((output / one.folder / "summary.json").read_text())[one.task]
        by_control: dict[str, dict[str, Any]] = {}
        for setting in one.settings:
            name, _, control = setting.partition("+")
            by_control.setdefault(control, {})[name] = scores[setting]
        for control, cells in by_control.items():
            yield one.title + (f", {control.replace('-', ' ')}" if control else ""), cells


def _cell(score: Mapping[str, Any] | None) -> str:
    """Percent with its 95% interval; a setting that was not asked, or means nothing, has none."""
    if score is None or "mean" not in score:
        return "n/a"
    return f"{100 * score['mean']:.0f} ({100 * score['low']:.0f} to {100 * score['high']:.0f})"


if __name__ == "__main__":
    sys.exit(main())
