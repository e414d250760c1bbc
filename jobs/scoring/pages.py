"""Scores to read: a Markdown table of every figure against words and bits, with the protocol, and a plot."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from spae.figures import curves_figure, png_bytes

OURS = "model"
_PLACES = ("by", "words", "bits", "layer")
_TITLES = {"psnr": "PSNR, dB", "ssim": "SSIM", "clip_score_so_far": "CLIP score"}


def score_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each way to rebuild the pictures: by what, of how many words, at how many bits, and its figures by title.

    `document` is what `jobs.evaluate` writes.
    """
    words = [layer["words_so_far"] for layer in document["layers"]]
    bits = math.log2(document["protocol"]["vocabulary_words"])
    rows = [
        {"by": OURS, "words": layer["words_so_far"], "bits": layer["words_so_far"] * bits, **_figures(layer)}
        for layer in document["layers"]
        if "psnr" in layer
    ]
    for name, scores in document["codecs"].items():
        title = "other model" if name == OURS else name
        for score in scores:
            at = words[min(score["layers"], len(words)) - 1]
            rows.append({"by": title, "words": at, "bits": score.get("bits"), **_figures(score)})
    return rows


def score_markdown(document: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """The table with the protocol that gave it; pictures by their files' names."""
    rows, protocol = score_rows(document), document["protocol"]
    parts = [f"# Scores of {protocol['model']} on {protocol['split']}", _table(rows)]
    incomparable = [judge["name"] for judge in protocol["judges"] if not judge["comparable"]]
    if incomparable:
        parts.append(f"The figures of {', '.join(incomparable)} come from random networks and compare with nothing.")
    if any(row["by"] == "jpeg" for row in rows):
        parts.append(
            "A file's bits hold its header; where even the lowest quality takes more than the words, it stands."
        )
    parts += ["## Words of each layer", _table(word_rows(document))]
    if frames := [
        {"layers": layer["layer"], **{f"frame {number}": value for number, value in enumerate(layer["psnr_frames"], 1)}}
        for layer in document["layers"]
        if "psnr_frames" in layer
    ]:
        parts += ["## PSNR of each frame, dB", _table(frames)]
    parts += [f"![{name}]({name})" for name in pictures]
    lines = [f"- {name}: {_plain(value)}" for name, value in protocol.items() if name != "source_sha256"]
    return "\n\n".join([*parts, "## Protocol", "\n".join(lines)]) + "\n"


def word_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the words of each layer are: in use, readable, what CLIP thinks of them, by title."""
    rows = []
    for layer in document["layers"]:
        usage, readable, pools = layer["usage"], layer.get("readable", {}), layer.get("in_pools", {})
        row = {
            "words in use": usage["words"],
            "perplexity": usage["perplexity"],
            "readable": readable.get("share"),
            "readable, uniform": readable.get("uniform"),
            "CLIP score of the layer": layer.get("clip_score"),
            "relative CLIP score": layer.get("relative_clip_score"),
            "in pools": pools.get("share"),
            "in pools, uniform": pools.get("uniform"),
        }
        top = {"top word": f"{usage['top_word']} {usage['top_share']:.1%}"}
        rows.append({"layer": layer["layer"], **row, **top})
    empty = {title for title in rows[0] if all(row[title] is None for row in rows)}
    return [{title: value for title, value in row.items() if title not in empty} for row in rows]


def score_plot(document: Mapping[str, Any], axis: Literal["words", "bits"]) -> bytes:
    """A PNG: a panel for each figure against words or bits of a picture, a line for each way to rebuild the pictures.

    Against words the figures of each layer's words too.
    """
    histories: dict[str, list[dict[str, float]]] = {}
    rows = [row for row in score_rows(document) if row[axis] is not None]
    if axis == "words":
        layers = zip(document["layers"], word_rows(document), strict=True)
        rows += [{"by": OURS, "words": layer["words_so_far"], **row} for layer, row in layers]
    for row in rows:
        shown = {name: value for name, value in row.items() if name not in _PLACES and isinstance(value, int | float)}
        histories.setdefault(row["by"], []).append({"step": row[axis], **shown})
    titles = dict.fromkeys(name for points in histories.values() for point in points for name in point)
    return png_bytes(curves_figure(histories, {name: name for name in titles if name != "step"}, axis))


def _figures(score: Mapping[str, Any]) -> dict[str, Any]:
    found = {title: score[name] for name, title in _TITLES.items() if score.get(name) is not None}
    for judge, figures in score["judges"].items():
        found |= {f"{name}, {judge}": value for name, value in figures.items()}
    return found


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    heads = list(dict.fromkeys(head for row in rows for head in row))
    lines = [heads, ["---"] * len(heads), *([_number(row.get(head)) for head in heads] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(_plain, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    return str(value)
