"""What the figures of drawn pictures share: runs of `jobs.incontext`, cells of their summaries, and their pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.reproductions.base import Cell, Document, Inputs, Run
from jobs.reproductions.understanding import RETIRED
from spae.data.media import decode_image
from spae.data.publishing import join, read_bytes
from spae.figures import pictures_figure, png_bytes
from spae.incontext.episodes import episodes_url, sheet_url

JUDGED, RIGHT = "judged right, %", "PSNR to the picture asked for, dB"


@dataclass(frozen=True, kw_only=True)
class DrawingsFigure:
    """Pictures that a language model drew in several ways.

    Attributes:
        title: what it shows.
        task: of `jobs.incontext`.
        settings: of it.
        variants: flags of each way of drawing, by its name.
        measure: what is told of each.
        of_baselines: whether other models draw too, which the paper compares with.
        paper: as in `Reproduction`.
    """

    title: str
    task: str
    settings: tuple[str, ...]
    variants: Mapping[str, tuple[str, ...]]
    measure: str
    paper: Mapping[str, str]
    of_baselines: bool = False
    notes: Sequence[str] = (RETIRED, "The paper shows pictures and prints no numbers.")

    @property
    def unit(self) -> str:
        """As in `Reproduction`."""
        return self.measure

    def runs(self, inputs: Inputs) -> list[Run]:
        """As in `Reproduction`: one a way of drawing, and each again a baseline.

        ValueError where baselines are wanted and none is given, or the other way round.
        """
        if self.of_baselines != bool(inputs.baselines):
            wanted = "needs --baselines NAME FOLDER" if self.of_baselines else "takes no --baselines"
            raise ValueError(f"{self.title} {wanted}")
        models = {"": (), **{f"{name}, ": ("--model", folder) for name, folder in inputs.baselines.items()}}
        return [
            Run(
                layers=0,
                module="jobs.incontext",
                folder=_slug(model + variant),
                document="summary.json",
                flags=("--task", self.task, *flags),
                settings=self.settings,
                overriding=overriding,
            )
            for model, overriding in models.items()
            for variant, flags in self.variants.items()
        ]

    def cells(self, run: Run, document: Document | None, reason: str) -> list[Cell]:
        """As in `Reproduction`."""
        scores = document[document["protocol"]["task"]] if document else {}
        return [self._cell(run, setting, scores.get(setting, {}), reason) for setting in run.settings]

    def _cell(self, run: Run, setting: str, score: Document, reason: str) -> Cell:
        name, scale = ("mean", 100) if self.measure == JUDGED else ("psnr", 1)
        ends = ("low", "high") if name == "mean" else ("psnr_low", "psnr_high")
        column = f"{setting}: {run.folder}"
        if name not in score:
            return Cell(layers=0, column=column, reason=reason or score.get("n/a", "no picture became whole"))
        return Cell(
            layers=0,
            column=column,
            value=scale * score[name],
            low=scale * score[ends[0]],
            high=scale * score[ends[1]],
            count=score["n"],
            reason=f"{100 * score['invalid']:.0f}% of segments not words at first" if score.get("invalid") else "",
        )

    def here(self, document: Document) -> Mapping[str, str]:
        """As in `Reproduction`."""
        protocol = document["protocol"]
        return {
            "pictures": f"{protocol['shards']}, examples of {protocol['support_shards']}",
            "tokenizer": f"{protocol['model']}, {protocol['model_fingerprint'][:12]}",
            "layers drawn": str(protocol["layers"]),
            "language model": f"{protocol['llm']}, {protocol['llm_revision']}",
            "examples": ", ".join(self.settings),
            "answers": "free text" if protocol["unconstrained"] else "words of the vocabulary alone, by a mask",
        }

    def picture(self, cells: Sequence[Cell], output: str) -> bytes | None:
        """The first episode of each cell, as `jobs.incontext` drew it."""
        panels = {}
        for cell in cells:
            setting, _, folder = cell.column.partition(": ")
            content = read_bytes(sheet_url(episodes_url(join(output, folder), self.task, setting, 0)))
            if content is not None:
                panels[cell.column] = decode_image(content)
        return png_bytes(pictures_figure(panels)) if panels else None


def _slug(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def strides(*numbers: int) -> dict[str, tuple[str, ...]]:
    """Ways of drawing by stride; 0 is one pass."""
    return {f"stride {number}" if number else "one pass": ("--stride", str(number)) for number in numbers}
