"""What tables of a language model that reads words share: runs of `jobs.incontext`, and cells of its summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.reproductions.base import Cell, Document, Inputs, Run
from spae.incontext.published import GPT, PALM, PublishedRow

RETIRED = (
    f"The paper's language models answer no more: OpenAI shut down {GPT} on 4 January 2024, and Google all PaLM 2 "
    "models by 9 April 2025. Another one stands in for them here, so that a difference tells of tokenizer, pictures "
    "and language model at once."
)


@dataclass(frozen=True, kw_only=True)
class UnderstandingTable:
    """A table of accuracies by layers and settings.

    Attributes:
        title: what it shows.
        settings: its columns.
        layers: its rows, unless others are asked for.
        released_task: on the files that the paper took.
        labelled_task: the same on any labelled pictures; None where there is none.
        published: what the paper prints; a row without layers stands beside all.
        pictures, task, prompt, questions: of the paper.
    """

    title: str
    settings: tuple[str, ...]
    layers: tuple[int, ...]
    released_task: str
    labelled_task: str | None
    published: Sequence[PublishedRow]
    pictures: str
    task: str
    prompt: str
    questions: str
    unit: str = "%"
    notes: Sequence[str] = (RETIRED,)

    @property
    def paper(self) -> Mapping[str, str]:
        """As in `Reproduction`."""
        return {
            "pictures": self.pictures,
            "tokenizer": "trained on ImageNet at 128 x 128, words of GPT (SPAE_GPT) or PaLM 2 (SPAE_PaLM)",
            "language model": f"{GPT} (SPAE_GPT), {PALM} (SPAE_PaLM)",
            "task": self.task,
            "prompt": self.prompt,
            "questions a setting": self.questions,
            "answers": "greedy free text",
        }

    def runs(self, inputs: Inputs) -> list[Run]:
        """As in `Reproduction`: one for each number of layers."""
        task = inputs.task or (self.released_task if inputs.released else self.labelled_task)
        if task is None:
            raise ValueError(
                f"{self.title} is on released files: give --data, a folder for --task {self.released_task}"
            )
        return [
            Run(
                layers=layers,
                module="jobs.incontext",
                folder=f"layers-{layers}",
                document="summary.json",
                flags=("--task", task, "--layers", str(layers), "--skip-impossible"),
                settings=self.settings,
            )
            for layers in inputs.layers or self.layers
        ]

    def cells(self, run: Run, document: Document | None, reason: str) -> list[Cell]:
        """As in `Reproduction`, in percent."""
        scores = document[document["protocol"]["task"]] if document else {}
        return [self._cell(run, setting, scores.get(setting, {}), reason) for setting in run.settings]

    def _cell(self, run: Run, setting: str, score: Document, reason: str) -> Cell:
        published = {
            row.system: row.percents[setting]
            for row in self.published
            if row.layers in (run.layers, None) and setting in row.percents
        }
        if "mean" not in score:
            reason = reason or score.get("n/a", "not measured")
            return Cell(layers=run.layers, column=setting, reason=reason, published=published)
        return Cell(
            layers=run.layers,
            column=setting,
            value=100 * score["mean"],
            low=100 * score["low"],
            high=100 * score["high"],
            count=score["n"],
            reason=f"{score['errors']} without an answer count as wrong" if score["errors"] else "",
            published=published,
        )

    def here(self, document: Document) -> Mapping[str, str]:
        """As in `Reproduction`."""
        protocol = document["protocol"]
        task = protocol["task"]
        counts = sorted({score["n"] for score in document[task].values() if "n" in score})
        places = [protocol.get(name) for name in ("data", "shards", "support_shards")]
        return {
            "pictures": " and ".join(str(place) for place in places if place),
            "tokenizer": f"{protocol['model']}, {protocol['model_fingerprint'][:12]}",
            "language model": f"{protocol['llm']}, {protocol['llm_revision']}",
            "task": task,
            "prompt": protocol["form"],
            "questions a setting": f"{' or '.join(map(str, counts))}, seed {protocol['seed']}",
            "answers": "one of the names" if protocol.get("closed") else "greedy free text",
        }

    def picture(self, cells: Sequence[Cell], output: str) -> bytes | None:
        """None: a table."""
        return None
