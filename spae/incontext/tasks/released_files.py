"""Released files, read within bounds: what they say is data, and what is not as it should be is named."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from spae.data.media import MediaError
from spae.data.sources.files import Place, is_text, read_part
from spae.incontext.text import one_line

MOST_BYTES = 1 << 30
"""Of a file; COCO's captions of 2014 are 66 MB."""
MOST_LETTERS = 2_000
"""Of a question, an answer, a caption, or a picture's path."""


def read_file(folder: str, name: str) -> str:
    """The text of a file below a folder; ValueError where there is none, it is too long, or not UTF-8."""
    try:
        data = read_part(Place(folder, name), 0, None, MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"over {MOST_BYTES} bytes")
        return data.decode("utf-8-sig")
    except (MediaError, ValueError) as error:
        raise ValueError(f"{folder}/{name}: {error}; --data names the folder with the released files") from error


def read_items(folder: str, name: str, *keys: str) -> list[Sequence[Mapping[str, Any]]]:
    """The lists of objects that a JSON object has under keys; without keys the one list that the file is.

    ValueError for other shapes.
    """
    text = read_file(folder, name)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:  # of too long a number, or too many brackets
        raise ValueError(f"{folder}/{name} is no JSON: {error}") from error
    if not keys:
        return [_items(document, f"{folder}/{name}")]
    found = document if isinstance(document, dict) else {}
    return [_items(found.get(key), f"{folder}/{name}, under {key!r},") for key in keys]


def _items(value: Any, where: str) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"{where} is not a list of objects with at least one in it, as released")
    return value


def text_of(item: Mapping[str, Any], field: str, where: str) -> str:
    """A field that holds text; ValueError, which names the place, where it does not, or holds too much or nothing."""
    return checked_text(item.get(field), f"{where}, field {field!r},")


def checked_text(text: Any, where: str) -> str:
    """A text of some letters, not too many; ValueError, which names the place, for anything else."""
    if not isinstance(text, str) or not one_line(text):
        raise ValueError(f"{where} holds no text but {str(text)[:40]!r}")
    if not is_text(text):
        raise ValueError(f"{where} holds {text[:40]!r}, which is half a character somewhere")
    if len(text) > MOST_LETTERS:
        raise ValueError(f"{where} holds {len(text)} letters, and at most {MOST_LETTERS} are allowed")
    return text


def number_of(item: Mapping[str, Any], field: str, where: str) -> int:
    """A field that holds a whole number; ValueError, which names the place, for anything else."""
    if not isinstance(number := item.get(field), int):
        raise ValueError(f"{where}, field {field!r}, holds no whole number but {str(number)[:40]!r}")
    return number
