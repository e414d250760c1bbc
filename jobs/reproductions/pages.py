"""Cells of a table as JSON and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.reproductions.base import Cell, Reproduction
from spae.incontext.plain_text import one_line


def as_document(
    name: str, reproduction: Reproduction, cells: Sequence[Cell], here: Mapping[str, str]
) -> dict[str, Any]:
    """As JSON tells it; what could not be made is null with its reason."""
    return {
        "name": name,
        "title": reproduction.title,
        "unit": reproduction.unit,
        "notes": list(reproduction.notes),
        "protocol": {"paper": reproduction.paper, "here": here},
        "cells": [{**vars(cell), "differences": cell.differences} for cell in cells],
    }


def as_markdown(reproduction: Reproduction, cells: Sequence[Cell], here: Mapping[str, str], picture: str | None) -> str:
    """The notes, both protocols, and a table for each row of the paper's; a picture by its file's name."""
    protocol = [[aspect, text, here.get(aspect, "")] for aspect, text in reproduction.paper.items()]
    parts = [f"# {reproduction.title}", *reproduction.notes, _table(["", "the paper", "here"], protocol)]
    if picture:
        parts.append(f"![{reproduction.title}]({picture})")
    for name, layers in dict.fromkeys((cell.row, cell.layers) for cell in cells):
        row = [cell for cell in cells if (cell.row, cell.layers) == (name, layers)]
        parts += [f"## {name}{name and ', '}{layers} layer{'s' if layers > 1 else ''}"] if layers else []
        parts += [f"![{name}]({row[0].picture})"] if row[0].picture else []
        parts.append(_row_table(row, reproduction.unit))
    return "\n\n".join(parts) + "\n"


def _row_table(cells: Sequence[Cell], unit: str) -> str:
    systems = list(dict.fromkeys(system for cell in cells for system in cell.published))
    heads = ["setting", f"here, {unit}", "95% interval", "n"]
    heads += [head for system in systems for head in (f"{system}, {unit}", "difference")]
    return _table(heads, [_line(cell, systems) for cell in cells])


def _line(cell: Cell, systems: Sequence[str]) -> list[str]:
    if cell.value is None:
        own = ["n/a", cell.reason, ""]
    else:
        shown = [_number(one, cell.digits) for one in (cell.value, cell.low, cell.high)]
        own = [shown[0], " to ".join(filter(None, shown[1:])), str(cell.count)]
        own[-1] += f" ({cell.reason})" if cell.reason else ""
    for system in systems:
        difference = cell.differences.get(system)
        own += [_number(cell.published.get(system), cell.digits), _number(difference, cell.digits, "+")]
    return [cell.column, *own]


def _number(value: float | None, digits: int, sign: str = "") -> str:
    if value is None:
        return ""
    return format(value, f"{sign}.{digits}g" if digits else f"{sign}.1f")


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """What stands in it is one line each, and none of its letters ends a cell."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(one_line(text).replace("|", "\\|") for text in row) + " |" for row in rows)
