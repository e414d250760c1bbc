"""The lines of a list file: .csv by the rules of CSV, .tsv and text with tabs, or text of a path and a label number."""

import csv
import itertools
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

import fsspec

from spae.data.sources.files import readable
from spae.data.sources.labels import LABEL_NAMES, TEXT_NAMES, choose_column

PATH_NAMES = ("url", "path", "file", "filename", "file_name", "image", "image_path", "image_url", "filepath")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True, slots=True)
class Line:
    """What one line says; of one with a problem the path is its place in the list."""

    path: str
    label: str = ""
    text: str = ""
    problem: str = ""


def list_lines(url: str) -> Iterator[Line]:
    """Every line that is not empty, below the line that names the columns if there is one.

    ValueError, with the number of the line, where a quotation mark of a .csv is not closed, and where the first line
    names columns of which none is one of paths.
    """
    rows = _rows(url)
    number, first = next(rows, (0, list[str]()))
    places = _places(first, url)
    data = rows if places else itertools.chain([(number, first)], rows) if first else rows
    for number, row in data:
        if len(row) != len(first):
            yield Line(f"{posixpath.basename(url)}:{number}", problem="another number of columns")
            continue
        path, label, text = (row[place].strip() if place < len(row) else "" for place in places or (0, 1, 2))
        yield Line(path, readable(label), readable(text))


def unused_columns(url: str) -> list[str]:
    """Names of the columns that say nothing here; none where the first line names no columns."""
    _, first = next(_rows(url), (0, list[str]()))
    places = _places(first, url)
    return [name for place, name in enumerate(first) if places and place not in places]


def _places(first: Sequence[str], url: str) -> list[int]:
    """Where path, label and caption stand by a line that names the columns; empty where the first line is data."""
    names = [cell.strip().lower() for cell in first]
    if set(names) & set(PATH_NAMES):
        chosen = [choose_column(names, "", usual, "") for usual in (PATH_NAMES, LABEL_NAMES, TEXT_NAMES)]
        return [names.index(name) if name else len(names) for name in chosen]
    if names and not re.search(r"[./]", names[0]):
        raise ValueError(
            f"the first line of {url}, {','.join(first)[:80]!r}, holds no path and names no column of paths: call it "
            f"one of {', '.join(PATH_NAMES)} (labels: {', '.join(LABEL_NAMES)}; captions: {', '.join(TEXT_NAMES)}), or "
            f"write ./{first[0][:80]} where this is a file"
        )
    return []


def _rows(url: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line that is not empty, and the line's number; ValueError where there is no such file."""
    suffix = posixpath.splitext(url)[1].lower()
    quoted = suffix == ".tsv" and all(
        _QUOTED.fullmatch(cell) for _, line in _text(url) for cell in line.split("\t") if cell.startswith('"')
    )
    if suffix == ".csv":
        with _opened(url) as stream:
            yield from _csv_rows(stream, url)
        return
    for number, line in _text(url):
        cells = line.split("\t") if suffix == ".tsv" else _cells(line)
        unquoted = [cell[1:-1].replace('""', '"') if cell.startswith('"') else cell for cell in cells]
        yield number, unquoted if quoted else cells


def _csv_rows(stream: TextIO, url: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(stream, strict=True)
    while True:
        begin = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"line {begin} (to {reader.line_num}) of {url} is no row of a .csv ({error}): a cell that begins with "
                "a quotation mark ends with one, those inside are doubled; in a .tsv they are marks like others"
            ) from error
        if row is None:
            return
        if row:
            yield begin, row


def _text(url: str) -> Iterator[tuple[int, str]]:
    with _opened(url) as stream:
        for number, line in enumerate(stream, 1):
            if line := line.rstrip("\r\n"):
                yield number, line


def _opened(url: str) -> TextIO:
    try:
        opened: TextIO = fsspec.open(url, "r", encoding="utf-8-sig", errors="surrogateescape", newline="").open()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ValueError(f"--input {url} is no file; give the list: .csv, .tsv or text") from error
    return opened


def _cells(line: str) -> list[str]:
    if "\t" in line:
        return line.split("\t")
    path, _, label = line.strip().rpartition(" ")
    return [path, label] if path and label.isdigit() else [line.strip(), ""]
