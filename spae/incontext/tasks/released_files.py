"""Released files, read within bounds: what they say is data, and what is not as it should be is named."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from spae.data.media import MediaError
from spae.data.sources.files import Place, read_part

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


def read_items(folder: str, name: str, key: str = "") -> Sequence[Mapping[str, Any]]:
    """The objects of a JSON list, or of the list that a JSON object has under a key; ValueError for other shapes."""
    try:
        document = json.loads(read_file(folder, name))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{folder}/{name} is no JSON: {error}") from error
    items = document.get(key) if key and isinstance(document, dict) else document
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        where = f"a list of objects under {key!r}" if key else "a list of objects"
        raise ValueError(f"{folder}/{name} is not {where} with at least one in it, as released")
    return items


def text_of(item: Mapping[str, Any], field: str, where: str) -> str:
    """A field that holds text; ValueError, which names the place, where it does not, or holds too much or nothing."""
    return checked_text(item.get(field), f"{where}, field {field!r},")


def checked_text(text: Any, where: str) -> str:
    """A text of some letters, not too many; ValueError, which names the place, for anything else."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where} holds no text but {str(text)[:40]!r}")
    if len(text) > MOST_LETTERS:
        raise ValueError(f"{where} holds {len(text)} letters, and at most {MOST_LETTERS} are allowed")
    return text


def number_of(item: Mapping[str, Any], field: str, where: str) -> int:
    """A field that holds a whole number; ValueError, which names the place, for anything else."""
    if not isinstance(number := item.get(field), int):
        raise ValueError(f"{where}, field {field!r}, holds no whole number but {str(number)[:40]!r}")
    return number
