"""The frozen language model draws in the demo's words: how often it draws what was asked, and what it mends.

    python -m jobs.demo_drawings             after `python -m jobs.demo`; about half an hour on two cores
    python -m jobs.demo_drawings --whole     hours, for docs/incontext.md

Every row of the table is a run of `jobs.incontext` on the same episodes, of test pictures with examples from the
training split. A cut run continues, and the demo's report shows what stands.
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
from jobs.demos.digits import LANGUAGE_MODEL

CLASSES, MENDING = "draw-classes", "denoise"
FLOORS = ("nearest-context", "majority-context")
COLUMNS = {"mean": "judged right, %", "copied": "words of one example, %", "psnr": "PSNR, dB"}
_PERCENT = ("mean", "copied")


@dataclass(frozen=True, kw_only=True)
class DemoDrawingsFlags:
    """Which rows, and of which demo."""

    demo: str = "runs/demo"
    """Folder of a finished demo."""
    output: str = ""
    """Folder for rows and table; without, drawings in the demo's."""
    whole: bool = False
    """All strides, temperatures, histories and damages, and all words of a picture."""
    episodes: int = 10
    """Supports a setting, ten queries each."""
    drawn_layers: int = 3
    """First layers that are drawn; 21 words."""


NAMES, SUMS = ("3-shot", "3-shot+permuted-labels"), ("3-shot-sum",)
LAST = ("3-shot+asked-last", "3-shot-sum+asked-last")
DAMAGES = ("outpainting", "inpainting", "deblurring", "shift", "rotation", "super-resolution", "colourisation")


def drawing(
    title: str, *flags: str, settings: tuple[str, ...] = (*NAMES[:1], *SUMS), reader: str = LANGUAGE_MODEL
) -> DemoRun:
    """A run that draws what is asked for by name and by sum."""
    return _run(CLASSES, title, flags, settings, reader)


def mending(
    title: str, *flags: str, damages: Sequence[str] = ("outpainting",), reader: str = ""
) -> tuple[DemoRun, ...]:
    """Runs that mend pictures by pairs of others, and of the same, of which an episode asks for one."""
    same = tuple(f"{damage}-same-picture" for damage in damages)
    return (
        _run(MENDING, title, flags, tuple(damages), reader),
        _run(MENDING, f"{title}, pairs of the same picture", (*flags, "--episodes", "100"), same, reader),
    )


def _run(task: str, title: str, flags: Sequence[str], settings: tuple[str, ...], reader: str) -> DemoRun:
    folder = "-".join((task, *"".join(one if one.isalnum() else " " for one in title).split()))
    return DemoRun(title=title, folder=folder, task=task, settings=settings, flags=tuple(flags), reader=reader)


def short_table() -> tuple[DemoRun, ...]:
    """One pass against a stride, and the floors."""
    return (
        drawing("one pass", "--stride", "0", settings=(*NAMES, *SUMS)),
        drawing("stride 4"),
        drawing("reference: nearest-context", "--stride", "0", reader=FLOORS[0]),
        *mending("one pass", "--stride", "0"),
        *mending("stride 4"),
        *(run for floor in FLOORS for run in mending(f"reference: {floor}", "--stride", "0", reader=floor)),
    )


def whole_table() -> tuple[DemoRun, ...]:
    """Every row of docs/incontext.md."""
    further = tuple(damage for damage in DAMAGES if damage != "outpainting")
    hot = ("--temperature", "0.7")
    return (
        *short_table(),
        drawing("stride 16", "--stride", "16"),
        drawing("stride 1", "--stride", "1"),
        drawing("stride 4, its last 4 words seen", "--history", "4"),
        drawing("one pass, examples of the asked class last", "--stride", "0", settings=LAST),
        drawing("stride 4, examples of the asked class last", settings=LAST),
        drawing("one pass, temperature .7", "--stride", "0", *hot),
        drawing("stride 4, temperature .7", *hot),
        drawing("stride 4, likeliest of 4 at .7", *hot, "--candidates", "4"),
        drawing("one pass, all 149 words", "--stride", "0", "--drawn-layers", "5", settings=(*NAMES[:1], *SUMS)),
        *mending("stride 4, other damages", damages=further),
        *(
            run
            for floor in FLOORS
            for run in mending(f"reference: {floor}, other damages", "--stride", "0", damages=further, reader=floor)
        ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where a run failed, 2 without a finished demo."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    flags = tyro.cli(DemoDrawingsFlags, args=arguments, description=__doc__)
    runs = whole_table() if flags.whole else short_table()
    output = Path(flags.output or Path(flags.demo, "drawings"))
    return make_table(runs, Path(flags.demo), output, shared_flags(flags), markdown)


def shared_flags(flags: DemoDrawingsFlags) -> tuple[str, ...]:
    """Of all runs."""
    return "--drawn-layers", str(flags.drawn_layers), "--episodes", str(flags.episodes), "--queries", "10"


def markdown(runs: Sequence[DemoRun], output: Path) -> str:
    """The table: a line a run and setting."""
    head = f"| | | {' | '.join(COLUMNS.values())} |\n|---|---|{'---|' * len(COLUMNS)}\n"
    return head + "".join(_lines(runs, output))


def _lines(runs: Sequence[DemoRun], output: Path) -> Iterator[str]:
    for run in runs:
        scores = json.loads((output / run.folder / "summary.json").read_text())[run.task]
        for setting in run.settings:
            cells = " | ".join(_cell(scores[setting], name) for name in COLUMNS)
            yield f"| {run.title} | {setting.removesuffix('-same-picture')} | {cells} |\n"


def _cell(score: Mapping[str, Any], name: str) -> str:
    """A measure with its 95% interval; empty where this setting has none."""
    if name not in score:
        return ""
    ends = ("low", "high") if name == "mean" else (f"{name}_low", f"{name}_high")
    value, low, high = (score[one] * (100 if name in _PERCENT else 1) for one in (name, *ends))
    digits = 0 if name in _PERCENT else 1
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    sys.exit(main())
