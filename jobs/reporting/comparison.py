"""Score documents beside each other, to read: one column a model, a line a figure. Loads without torch."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MISSING = "-"


@dataclass(frozen=True)
class ComparedFigure:
    """One line: what it says, and its value for each model."""

    title: str
    values: tuple[str, ...]


_PROTOCOL = ("source_sha256", "input_size", "crop", "clips", "judges", "references", "inception_splits")
"""What figures must share to stand in one table; what older documents lack is not compared."""


def require_same_protocol(documents: Sequence[Mapping[str, Any]]) -> None:
    """ValueError, naming both sides, where the figures of some scores came about otherwise than those of the first."""
    protocols = [json.loads(json.dumps(document["protocol"])) for document in documents if "protocol" in document]
    for one, other in itertools.product(protocols[:1], protocols[1:]):
        for name in _PROTOCOL:
            if name in one and name in other and one[name] != other[name]:
                raise ValueError(
                    f"figures of different protocols cannot stand in one table: {name} is {str(one[name])[:300]} of "
                    f"{one['model']} and {str(other[name])[:300]} of {other['model']}; score both alike"
                )


def compared_figures(documents: Sequence[Mapping[str, Any]]) -> list[ComparedFigure]:
    """The figures of some scores beside each other; what a document lacks is shown as missing, what all lack is not.

    ValueError where they are of different protocols.
    """
    require_same_protocol(documents)
    depth = max((len(document.get("layers") or ()) for document in documents), default=0)
    lines: list[tuple[str, tuple[str | int, ...], Callable[[Any], str]]] = []
    for number in range(depth):
        words = next((at(document, "layers", number, "words_so_far") for document in documents), None)
        title = f"PSNR of layers 1 to {number + 1}, {words} words" if number else "PSNR of layer 1"
        lines.append((title, ("layers", number, "psnr"), _decibels))
    lines += _FIGURES
    for number in range(depth):
        lines.append((f"layer {number + 1}: words used, perplexity, top word", ("layers", number, "usage"), _usage))
    for number in range(depth):
        lines.append((f"layer {number + 1}: CLIP score of its words", ("layers", number, "clip_score"), _cosine))
    for number, (judge, figure) in itertools.product(range(depth), _judged(documents)):
        title = f"layers 1 to {number + 1}: {figure} by {judge}" if number else f"layer 1: {figure} by {judge}"
        lines.append((title, ("layers", number, "judges", judge, figure), _significant))
    rows = []
    for title, path, shown in lines:
        found = [at(document, *path) for document in documents]
        if any(value is not None for value in found):
            rows.append(ComparedFigure(title, tuple(MISSING if value is None else shown(value) for value in found)))
    return rows


def comparison_text(rows: Sequence[ComparedFigure], heads: Sequence[str]) -> str:
    """The figures as text in columns, with a head for each model."""
    lines = [("", *heads), *((row.title, *row.values) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads) + 1)]
    text = ""
    for first, *others in lines:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        text += "  ".join(cells).rstrip() + "\n"
    return text


def at(value: Any, *path: str | int) -> Any:
    """What stands at a path of keys and positions in JSON values, None where it ends early."""
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _judged(documents: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Each judge with each of its figures."""
    rows = [row for document in documents for row in document.get("layers") or ()]
    found = ((judge, figure) for row in rows for judge, one in row.get("judges", {}).items() for figure in one)
    return list(dict.fromkeys(found))


def _significant(value: float) -> str:
    return f"{value:.4g}"


def _decibels(value: float) -> str:
    return f"{value:.2f} dB"


def _percent(value: Mapping[str, Any]) -> str:
    return f"{value['share']:.1%} [{value['low']:.1%}, {value['high']:.1%}]"


def _usage(value: Mapping[str, Any]) -> str:
    return f"{value['words']}, {value['perplexity']:.1f}, {value['top_word']} {value['top_share']:.1%}"


def _cosine(value: float) -> str:
    return f"{value:.4f}"


_FIGURES: list[tuple[str, tuple[str | int, ...], Callable[[Any], str]]] = [
    ("PSNR of the nearest training picture", ("baselines", "nearest_psnr"), _decibels),
    ("PSNR of the mean training picture", ("baselines", "mean_psnr"), _decibels),
    ("PSNR lost when pictures exchange their words", ("swapped", "lost"), _decibels),
    ("first word is the class's name", ("first_word",), _percent),
    ("first word, by the best map learnt on train", ("baselines", "learnt_map"), _percent),
    ("CLIP's own zero-shot accuracy", ("clip", "zero_shot"), _percent),
    ("CLIP's best word of all is the name", ("clip", "best_word"), _percent),
]
