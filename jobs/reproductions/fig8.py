"""Fig. 8: words and reconstructions for every row of Tab. 4 (section 4.4)."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.reproductions.base import Cell, Document, Inputs, Run
from jobs.reproductions.fig4 import UsageFigure
from jobs.reproductions.reconstructions import OWN_ROW, evaluation
from jobs.reproductions.tab4 import ROWS


@dataclass(frozen=True, kw_only=True)
class RowsFigure(UsageFigure):
    """The same pictures as each row's model writes and rebuilds them; each run draws its own."""

    layers: int = 6
    title: str = "Fig. 8: words and reconstructions of every row of Tab. 4"
    notes: Sequence[str] = (
        "Of each row the first pictures of the split, their words where they stand, and what the layers rebuild. The "
        "paper prints no numbers with its figure.",
        "With --models the models that `python -m jobs.ablate` left in its output; with --model one alone.",
    )

    def runs(self, inputs: Inputs) -> list[Run]:
        """As in `Reproduction`: one a model."""
        layers = max(inputs.layers, default=self.layers)
        rows = (OWN_ROW, *ROWS) if inputs.models else (OWN_ROW,)
        deepest = {row: min(max(ROWS[row]), layers) if row in ROWS else layers for row in rows}
        return [
            evaluation((count,), row, inputs.models, ("--pages", "--examples", "2")) for row, count in deepest.items()
        ]

    def cells(self, run: Run, document: Document | None, reason: str) -> list[Cell]:
        """As in `Reproduction`: pixels and use of the words of the last layer."""
        found = super().cells(run, document, reason)
        if document is None:
            return [dataclasses.replace(cell, row=run.row) for cell in found]
        picture = f"{run.folder}/scores-pictures.png"
        pixels = Cell(layers=run.layers, column="PSNR, dB", value=document["layers"][run.layers - 1]["psnr"], digits=4)
        shown = [dataclasses.replace(pixels, count=document["samples"]), *found]
        last = [cell for cell in shown if cell.layers == run.layers]
        return [dataclasses.replace(cell, row=run.row, picture=picture) for cell in last]


FIGURE = RowsFigure()
