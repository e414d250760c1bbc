"""What tables of reconstructions share: one run of `jobs.evaluate`, and cells of its document by layers and figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jobs.reproductions.base import Cell, Document, Inputs, Run
from spae.data.publishing import join

Published = Mapping[int, Mapping[str, Mapping[str, float]]]
"""What the paper prints of a row: by layers, by figure, by system."""
OWN_ROW = "pyramid"
"""The ablation table's name of the pyramid itself."""
PRINTED = {
    "FID": "FID",
    "IS": "IS",
    "FVD": "FVD",
    "LPIPS (VGG16)": "LPIPS",
    "LPIPS (AlexNet)": "LPIPS",
    "CLIP score": "CLIP score",
}
"""The paper's name of each of our figures that it prints; it does not say whose LPIPS."""
_DIGITS = 4


def evaluation(layers: Sequence[int], row: str = "", models: str | None = None, more: Sequence[str] = ()) -> Run:
    """Of a row's model, seed 0, or of the model that the command is handed."""
    own = () if models is None else ("--model", join(models, "models", f"{row}-0"))
    return Run(
        layers=max(layers),
        module="jobs.evaluate",
        folder="scores" if models is None else f"scores-{row}",
        document="scores.json",
        flags=("--layers", ",".join(map(str, sorted(layers))), *own, *more),
        settings=(),
        output_is_document=True,
        row=row,
    )


@dataclass(frozen=True, kw_only=True)
class ReconstructionTable:
    """A table of figures by layers.

    Attributes:
        title: what it shows.
        layers: its rows, unless others are asked for.
        published: what the paper prints.
        others: the same of other models' rows, by the names of `spae.ablations`.
        notes: as in `Reproduction`.
    """

    title: str
    layers: tuple[int, ...]
    published: Published
    notes: Sequence[str]
    others: Mapping[str, Published] = field(default_factory=dict)
    unit: str = "by the figure"

    @property
    def paper(self) -> Mapping[str, str]:
        """As in `Reproduction`."""
        return {
            "pictures": "ImageNet's validation split, 50,000",
            "size": "128 x 128, and 256 x 256 where it says so",
            "tokenizer": "trained on ImageNet, words of PaLM 2",
            "judges": "Inception-v3 of TensorFlow; LPIPS, its network not told",
            "reference": "not told",
        }

    def runs(self, inputs: Inputs) -> list[Run]:
        """As in `Reproduction`: one a model, for all its layers."""
        layers = inputs.layers or self.layers
        if inputs.models is None:
            return [evaluation(layers)]
        if not self.others:
            raise ValueError("the table has one row: give --model, and no --models")
        rows = {OWN_ROW: layers}
        rows |= {row: tuple(n for n in printed if n <= 2) or (max(layers),) for row, printed in self.others.items()}
        return [evaluation(layers, row, inputs.models) for row, layers in rows.items()]

    def cells(self, run: Run, document: Document | None, reason: str) -> list[Cell]:
        """As in `Reproduction`."""
        if document is None:
            asked = [int(number) for number in run.flags[1].split(",")]
            return [Cell(layers=number, column="all", reason=reason, row=run.row) for number in asked]
        samples = document["samples"]
        return [cell for row in document["layers"] if "psnr" in row for cell in self._row(row, samples, run.row)]

    def here(self, document: Document) -> Mapping[str, str]:
        """As in `Reproduction`."""
        protocol = document["protocol"]
        judges = [f"{judge['name']} ({judge['sha256'][:12]}): {judge['preprocessing']}" for judge in protocol["judges"]]
        return {
            "pictures": f"{protocol['shards']}, {document['samples']}",
            "size": " x ".join(map(str, protocol["input_size"])),
            "tokenizer": f"{protocol['model']}, {protocol['model_fingerprint'][:12]}",
            "judges": "; ".join(judges) or "none; give --judges inception-v3 lpips-vgg",
            "reference": protocol["judged"],
        }

    def picture(self, cells: Sequence[Cell], output: str) -> bytes | None:
        """None: a table."""
        return None

    def _row(self, row: Document, samples: int, name: str) -> list[Cell]:
        found = {"PSNR, dB": row["psnr"], "SSIM": row["ssim"], "CLIP score": row.get("clip_score_so_far")}
        names = dict(found)
        for judge, figures in row["judges"].items():
            names |= {figure if figure in PRINTED else f"{figure}, {judge}": value for figure, value in figures.items()}
        printed = self.others.get(name, self.published).get(row["layer"], {})
        return [
            Cell(
                layers=row["layer"],
                column=column,
                value=value,
                count=samples,
                row=name,
                published=printed.get(PRINTED.get(column, ""), {}),
                digits=_DIGITS,
            )
            for column, value in names.items()
            if value is not None
        ]
