"""Class names and columns of sources that others made, where these sources name them or people do."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from spae.data.publishing import read_bytes
from spae.data.records import ClassName, load_classes

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
    """A label's number, written 7 or (columns with gaps) 7.0; None for other texts, and what tables cannot hold."""
    text = text.strip().removesuffix(".0")
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
    def occurring(cls, texts: Iterable[str]) -> "Labels":
        """What occurs, each time: labels are these numbers where most are numbers, else the sorted texts from 0 on.

        Among numbers other texts are no labels: one broken label must not shift those of all other inputs. ValueError
        where two numbers differ in leading zeros only: nobody can say whether 01 and 1 are one class.
        """
        counts = Counter(texts)
        numbers = {text: number for text in counts if (number := parse_label(text)) is not None}
        numbered = 2 * sum(counts[text] for text in numbers) > counts.total()
        if numbered:
            _check_zeros(numbers)
        pairs = [(n, str(n)) for n in sorted({*numbers.values()})] if numbered else list(enumerate(sorted(counts)))
        return cls(tuple(ClassName(*pair) for pair in pairs), {text: label for label, text in pairs})

    def find(self, text: str) -> tuple[int | None, str]:
        """The label of an input, and why it has none where the source has labels."""
        if not self.classes:
            return None, ""
        if not text.strip():
            return None, "no label"
        number = parse_label(text)
        label = self.by_text.get(text if number is None or text in self.by_text else str(number))
        return label, "" if label is not None else "unknown label"


def _check_zeros(numbers: Mapping[str, int]) -> None:
    found: dict[int, str] = {}
    for text, number in numbers.items():
        digits = text.strip().removesuffix(".0")
        if found.setdefault(number, digits) != digits:
            raise ValueError(
                f"the labels {found[number]!r} and {digits!r} would be one class; write both alike where they are, or "
                "else call the classes by names"
            )


def choose_column(names: Sequence[str], wanted: str, usual: Sequence[str], flag: str) -> str:
    """The wanted column, or the first usual one, or ''; ValueError where the wanted one is not there."""
    if wanted and wanted not in names:
        raise ValueError(f"{flag} {wanted} is none of the columns {', '.join(names)}")
    return wanted or next((name for name in usual if name in names), "")
