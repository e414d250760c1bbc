"""Fig. 4: one picture's pyramid of words, and which words layers 1 to 4 use over a split (section 4.4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.reproductions.base import Cell, Document, Inputs, Run

_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class UsageFigure:
    """How layers use words; the figure itself is drawn by the run.

    Attributes:
        layers: the first so many are told of, unless others are asked for.
    """

    layers: int = 4
    title: str = "Fig. 4: a pyramid of words, and the words that its layers use"
    unit: str = "by the figure"
    notes: Sequence[str] = (
        "The picture's pyramid is scores/scores-pictures.png, the most frequent words of each layer are "
        "scores/scores-words.png. The paper prints no numbers with its figure.",
    )

    @property
    def paper(self) -> Mapping[str, str]:
        """As in `Reproduction`."""
        return {"pictures": "ImageNet's validation split", "tokenizer": "trained on ImageNet at 128 x 128"}

    def runs(self, inputs: Inputs) -> list[Run]:
        """As in `Reproduction`: one, for the first layers."""
        return [
            Run(
                layers=max(inputs.layers, default=self.layers),
                module="jobs.evaluate",
                folder="scores",
                document="scores.json",
                flags=("--pages", "--examples", "1"),
                settings=(),
                output_is_document=True,
            )
        ]

    def cells(self, run: Run, document: Document | None, reason: str) -> list[Cell]:
        """As in `Reproduction`."""
        if document is None:
            return [Cell(layers=run.layers, column="all", reason=reason)]
        return [
            Cell(layers=row["layer"], column=title, value=value, count=document["samples"], digits=_DIGITS)
            for row in document["layers"][: run.layers]
            for title, value in _usage(row).items()
        ]

    def here(self, document: Document) -> Mapping[str, str]:
        """As in `Reproduction`."""
        protocol = document["protocol"]
        return {
            "pictures": f"{protocol['shards']}, {document['samples']}",
            "tokenizer": f"{protocol['model']}, {protocol['model_fingerprint'][:12]}",
        }

    def picture(self, cells: Sequence[Cell], output: str) -> bytes | None:
        """None: the run draws it."""
        return None


def _usage(row: Document) -> dict[str, float]:
    usage = row["usage"]
    found = {"words in use": usage["words"], "perplexity": usage["perplexity"]}
    found[f"share of {usage['top_word']}, %"] = 100 * usage["top_share"]
    if row.get("readable"):
        found["readable words, %"] = 100 * row["readable"]["share"]
    return found


FIGURE = UsageFigure()
