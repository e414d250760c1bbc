"""Fig. 3: few-shot accuracy against the number of layers (section 4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.reproductions import tab1
from jobs.reproductions.base import Cell
from jobs.reproductions.understanding import UnderstandingTable
from spae.figures import MeasuredPoint, layers_figure, png_bytes
from spae.incontext.published import FIGURE_3, FIGURE_3_SETTINGS


@dataclass(frozen=True, kw_only=True)
class LayersFigure(UnderstandingTable):
    """The table with a picture of it."""

    def picture(self, cells: Sequence[Cell], output: str) -> bytes:
        """A panel for each setting."""
        measured: dict[str, list[MeasuredPoint]] = {setting: [] for setting in self.settings}
        for cell in cells:
            if cell.value is not None and cell.low is not None and cell.high is not None:
                measured[cell.column].append(MeasuredPoint(cell.layers, cell.value, cell.low, cell.high))
        printed = {
            setting: {
                row.layers: row.percents[setting] for row in self.published if row.layers and setting in row.percents
            }
            for setting in self.settings
        }
        return png_bytes(layers_figure(measured, printed, "right, %"))


FIGURE = LayersFigure(
    title="Fig. 3: few-shot classification against the number of layers",
    settings=FIGURE_3_SETTINGS,
    layers=(1, 2, 3, 4, 5, 6),
    released_task=tab1.TABLE.released_task,
    labelled_task=tab1.TABLE.labelled_task,
    published=FIGURE_3,
    pictures=tab1.PICTURES,
    task=tab1.TASK,
    prompt=tab1.PROMPT,
    questions=tab1.QUESTIONS,
    notes=(
        *UnderstandingTable.notes,
        "The figure has no numbers: the paper's are those that Tab. 1 and Tab. 4 print of the same settings.",
    ),
)
