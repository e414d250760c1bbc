"""Tab. 1: few-shot classification on mini-ImageNet (section 4.2)."""

from dataclasses import dataclass

from jobs.reproductions.base import Cell, Document, Run
from jobs.reproductions.understanding import UnderstandingTable
from spae.incontext.prompts import SETTINGS
from spae.incontext.published import TABLE_1

PICTURES = "mini-ImageNet's test classes, in the episodes that Frozen released"
TASK = "classes by their own names"
PROMPT = "LQAE's (SPAE_GPT), Frozen's (SPAE_PaLM)"
QUESTIONS = "up to 2,500, one an episode"


@dataclass(frozen=True, kw_only=True)
class AveragedTable(UnderstandingTable):
    """The table with the mean of all settings of so many ways."""

    def cells(self, run: Run, document: Document | None, reason: str) -> list[Cell]:
        """Settings, then both means."""
        cells = super().cells(run, document, reason)
        return [*cells, *(self._mean(run, ways, cells) for ways in (2, 5))]

    def _mean(self, run: Run, ways: int, cells: list[Cell]) -> Cell:
        """Settings may be about the same questions and err together: the interval is at least wide enough."""
        published = {row.system: row.averages[ways] for row in self.published if row.layers == run.layers}
        name = f"mean of {ways}-way settings"
        members = [cell for cell in cells if SETTINGS[cell.column].ways == ways]
        values = [cell.value for cell in members if cell.value is not None]
        if len(values) < len(members):
            return Cell(layers=run.layers, column=name, reason="not all settings have a figure", published=published)
        mean = sum(values) / len(values)
        reach = sum(cell.reach for cell in members) / len(values)
        count = sum(cell.count for cell in members)
        return Cell(
            layers=run.layers,
            column=name,
            value=mean,
            low=max(0.0, mean - reach),
            high=min(100.0, mean + reach),
            count=count,
            published=published,
        )


TABLE = AveragedTable(
    title="Tab. 1: few-shot classification by a frozen language model",
    settings=tuple(SETTINGS),
    layers=(2, 3),
    released_task="mini-imagenet-real",
    labelled_task="few-shot-real",
    published=[row for row in TABLE_1 if row.system.startswith("SPAE")],
    pictures=PICTURES,
    task=TASK,
    prompt=PROMPT,
    questions=QUESTIONS,
)
