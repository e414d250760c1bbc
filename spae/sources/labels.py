"""Class names and columns of sources that others made, where these sources name them or people do."""

from collections.abc import Sequence

from spae.publishing import read_bytes
from spae.records import ClassName, load_classes

LABEL_NAMES = ("label", "labels", "class", "cls", "target", "fine_label", "class_name")
TEXT_NAMES = ("text", "caption", "txt", "captions")
MAX_LABEL = 2**31 - 1
"""classes.parquet and token tables hold 32 bits."""
MAX_TEXT_BYTES = 1 << 14
"""Of a label or caption; a longer one is a problem of its input."""


def named_classes(url: str) -> tuple[ClassName, ...]:
    """Classes of a file that lists them: one name a line from label 0 on, or a classes.parquet of ours."""
    if url.endswith(".parquet"):
        return load_classes(url)
    data = read_bytes(url)
    if data is None:
        raise ValueError(f"--annotations {url} does not exist; give a file of one class name a line, label 0 first")
    names = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    return tuple(ClassName(label, name) for label, name in enumerate(names) if name)


def classes_of(values: set[str]) -> tuple[ClassName, ...]:
    """The classes of all labels that occur: by their numbers where all are numbers, else sorted names from 0."""
    if all(parse_label(value) is not None for value in values):
        return tuple(ClassName(label, str(label)) for label in sorted({int(value) for value in values}))
    return tuple(ClassName(label, name) for label, name in enumerate(sorted(values)))


def parse_label(text: str) -> int | None:
    """A label's number; None where the text is none, or none that tables can hold."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 and int(text) <= MAX_LABEL else None


class Labels:
    """From what a source says of an input's class to its label and problem."""

    def __init__(self, classes: Sequence[ClassName]) -> None:
        self.numbers = {row.label for row in classes}
        self.names = {row.name: row.label for row in classes}

    def find(self, value: str | None) -> tuple[int | None, str]:
        """The label, and why there is none where the source has labels; a name goes before a number."""
        if not self.numbers:
            return None, ""
        if value is None or not value.strip():
            return None, "no label"
        number = parse_label(value)
        label = self.names.get(value.strip(), number if number in self.numbers else None)
        return label, "" if label is not None else "unknown label"


def choose_column(names: Sequence[str], wanted: str, usual: Sequence[str], flag: str) -> str:
    """The wanted column, or the first usual one, or ''; ValueError where the wanted one is not there."""
    if wanted and wanted not in names:
        raise ValueError(f"{flag} {wanted} is none of the columns {', '.join(names)}")
    return wanted or next((name for name in usual if name in names), "")
