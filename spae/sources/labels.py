"""Class names and columns of sources that others made, where these sources name them or people do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


def parse_label(text: str) -> int | None:
    """A label's number; None where the text is none, or none that tables can hold."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 and int(text) <= MAX_LABEL else None


@dataclass(frozen=True)
class Labels:
    """The classes of a source, and by what text it names them."""

    classes: tuple[ClassName, ...]
    by_text: dict[str, int]

    @classmethod
    def given(cls, classes: Iterable[ClassName]) -> "Labels":
        """Classes that are listed somewhere: texts are their numbers, or else their names."""
        rows = tuple(classes)
        return cls(rows, {row.name: row.label for row in rows} | {str(row.label): row.label for row in rows})

    @classmethod
    def occurring(cls, texts: set[str]) -> "Labels":
        """What occurs: labels are these numbers where all are numbers, else the sorted texts count from 0."""
        numbers = {number for text in texts if (number := parse_label(text)) is not None}
        numbered = not any(parse_label(text) is None for text in texts)
        pairs = [(n, str(n)) for n in sorted(numbers)] if numbered else list(enumerate(sorted(texts)))
        return cls(tuple(ClassName(*pair) for pair in pairs), {text: label for label, text in pairs})

    def find(self, text: str) -> tuple[int | None, str]:
        """The label of an input, and why it has none where the source has labels."""
        if not self.classes:
            return None, ""
        if not text.strip():
            return None, "no label"
        label = self.by_text.get(text, self.by_text.get(str(parse_label(text))))
        return label, "" if label is not None else "unknown label"


def choose_column(names: Sequence[str], wanted: str, usual: Sequence[str], flag: str) -> str:
    """The wanted column, or the first usual one, or ''; ValueError where the wanted one is not there."""
    if wanted and wanted not in names:
        raise ValueError(f"{flag} {wanted} is none of the columns {', '.join(names)}")
    return wanted or next((name for name in usual if name in names), "")
