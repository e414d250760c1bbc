"""The scores of ablation rows in Markdown: the paper's columns, and how each layer uses the words."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]

COLUMNS = {
    "FID*": "frechet",
    "IS*": "inception",
    "LPIPS*": "distance",
    "CLIP": "clip_score",
    "5-way*, %": "few_shot",
    "PSNR, dB": "psnr",
}
"""Of the layers up to one, by heading."""
USAGE_COLUMNS = {
    "words": "words",
    "perplexity": "perplexity",
    "top word, %": "top_share",
    "pool hit, %": "pool_hit",
    "PSNR so far, dB": "psnr",
}
"""Of one layer."""
_SHARES = ("few_shot", "top_share", "pool_hit")


def ablation_markdown(documents: Sequence[Document], rows: Sequence[str]) -> str:
    """The paper's table and that of usage, a line for each layer of each row; means over seeds, with their range."""
    clip = documents[0]["clip"].partition(":")[2].rpartition("/")[2] or documents[0]["clip"]
    notes = (
        f"\\* stand-ins, which compare these rows only: the judge is a CLIP ({clip}) and not Inception-v3 or LPIPS, "
        "and 5-way is 1-shot by the nearest class mean of word embeddings, not a language model's. Where a row was "
        f"trained with several seeds: mean (lowest to highest). {documents[0]['samples']} pictures.\n"
    )
    usage = "Words of each layer, and how often a guided layer's word lies in its candidate pool:\n"
    scores = _lines(documents, rows, "layers: words", COLUMNS)
    return "\n".join((scores, notes, usage, _lines(documents, rows, "layer", USAGE_COLUMNS)))


def _lines(documents: Sequence[Document], rows: Sequence[str], number: str, columns: Mapping[str, str]) -> str:
    lines = [f"| row | {number} | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]
    for row in rows:
        own = [document["layers"] for document in documents if document["row"] == row]
        for layer in range(len(own[0])):
            cells = [_cell([_value(layers[layer], name) for layers in own]) for name in columns.values()]
            first = f"{layer + 1}: {own[0][layer]['tokens']}" if columns is COLUMNS else f"{layer + 1}"
            lines.append(f"| {row} | {first} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _value(layer: Mapping[str, Any], name: str) -> float | None:
    value = layer[name]["accuracy"] if name == "few_shot" else layer[name]
    return value * 100 if name in _SHARES and value is not None else value


def _cell(values: Sequence[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "n/a"
    mean = f"{statistics.mean(numbers):.3g}"
    return mean if len(numbers) == 1 else f"{mean} ({min(numbers):.3g} to {max(numbers):.3g})"
