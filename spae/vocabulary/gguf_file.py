"""A GGUF file, the format in which llama.cpp keeps models: fields, a list of tensors, then their blocks.

The header is walked here and the library gguf decodes the blocks. Its own reader makes objects for each of the 150,000
strings and numbers of SmolLM2's header (5 s), and does not end on a file that promises more than it holds; here what a
file promises is held against its size before anything is taken.
"""

import contextlib
import importlib.metadata
import math
import mmap
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_LARGEST_HEADER = 2**28  # bytes; Gemma 3's, of 262,144 tokens, takes 7 million
_MOST_ENTRIES = 2**22  # of all arrays, or tensors; Gemma 3 has 786,432
_LONGEST_TOKEN = 2**13  # bytes of a text in an array: a token, or two of them
_LONGEST_TEXT = 2**22  # bytes of a field, such as a chat template
_LARGEST_TABLE = 2**31  # numbers of a table, 8 GiB as float32; Llama 3.1 405B's has 2.1e9
_FORMATS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_TEXT, _ARRAY = 8, 9

Field = int | float | bool | str


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies."""

    kind: int
    """Number of its type, as the library gguf names them."""
    shape: tuple[int, ...]
    """As in torch: rows first."""
    start: int
    """Its first byte in the file."""
    size: int
    """Bytes; 0 where gguf does not know the type."""


class GgufFile:
    """The header of a GGUF file, and tables of it.

    Args:
        path: a local file.

    Raises:
        ValueError: it is no GGUF file of version 2 or 3 (little-endian), or is cut, or promises what it cannot hold.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            if file.read(4) != _MAGIC:
                raise ValueError(f"{path} is no GGUF file: it does not begin with GGUF")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.fields: dict[str, Field] = {}
        """Single values by name; arrays, as of tokens, are left out."""
        self.tensors: dict[str, GgufTensor] = {}
        try:
            _Walk(self._bytes).read(self.fields, self.tensors)
        except (ValueError, OverflowError, struct.error) as error:  # struct's says that the file ends too early
            raise ValueError(f"{path} is a damaged GGUF file, cut or of another version: {error}") from error

    def kind(self, name: str) -> str:
        """Name of a tensor's type, such as Q8_0."""
        return str(_gguf().GGMLQuantizationType(self.tensors[name].kind).name)

    def table(self, name: str) -> Tensor:
        """Rows float32 (V, C) of a tensor, decoded; ValueError where it is no table, or of a type that is unknown."""
        tensor = self.tensors[name]
        if len(tensor.shape) != 2 or not 0 < math.prod(tensor.shape) <= _LARGEST_TABLE:
            raise ValueError(f"{name} of shape {tensor.shape} is no table of at most {_LARGEST_TABLE} numbers")
        rows, width = tensor.shape
        try:
            kind = _gguf().GGMLQuantizationType(tensor.kind)
            if width % _gguf().GGML_QUANT_SIZES[kind][0]:
                raise ValueError(f"rows of {width} numbers are not made of whole blocks of {kind.name}")
            stored = np.frombuffer(self._bytes, np.uint8, tensor.size, tensor.start)
            decoded = _gguf().dequantize(stored.reshape(rows, -1), kind)
        except (ValueError, NotImplementedError) as error:
            raise ValueError(f"{name} cannot be read: {error}") from error
        return torch.from_numpy(np.require(decoded, np.float32, ["C", "W"])).reshape(rows, width)


def find_gguf(place: str) -> Path | None:
    """A .gguf file, or the one that the installed package of this name ships (it is not imported); else None."""
    if Path(place).exists():
        return Path(place) if Path(place).suffix == ".gguf" else None
    try:
        files = importlib.metadata.files(place) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if len(found) > 1:
        raise ValueError(f"{place}: this package ships {', '.join(map(str, found))}; give one of these files")
    return found[0] if found else None


@contextlib.contextmanager
def alone(path: Path) -> Iterator[Path]:
    """A folder in which a file lies alone: transformers prefers a tokenizer.json that lies beside it."""
    with tempfile.TemporaryDirectory(prefix="spae-") as folder:
        (Path(folder) / path.name).symlink_to(path.resolve())
        yield Path(folder)


class _Walk:
    """A place in the header, and how far arrays may still go."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place, self.room = data, len(_MAGIC), _MOST_ENTRIES

    def read(self, fields: dict[str, Field], tensors: dict[str, GgufTensor]) -> None:
        """Fill both from the file; ValueError or struct.error where it is not sound."""
        version, tensor_count, field_count = self._numbers("IQQ")
        if version not in _VERSIONS:
            raise ValueError(f"version {version}, where {_VERSIONS[0]} and {_VERSIONS[1]} are read")
        self._take(tensor_count + field_count)
        for _ in range(field_count):
            name = self._text(_LONGEST_TOKEN)
            if (value := self._value(*self._numbers("I"))) is not None:
                fields[name] = value
        found = [self._tensor() for _ in range(tensor_count)]
        alignment = fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"general.alignment {alignment} is no number of bytes")
        start = -(-self.place // alignment) * alignment
        for name, kind, shape, offset in found:
            if name in tensors:
                raise ValueError(f"tensor {name} is there twice")
            tensors[name] = GgufTensor(kind, shape, start + offset, _stored_bytes(kind, math.prod(shape)))
            if (end := start + offset + tensors[name].size) > len(self.data):
                raise ValueError(f"tensor {name} would end at byte {end} of {len(self.data)}")

    def _tensor(self) -> tuple[str, int, tuple[int, ...], int]:
        name, (dimensions,) = self._text(_LONGEST_TOKEN), self._numbers("I")
        if dimensions > 4:
            raise ValueError(f"tensor {name} has {dimensions} dimensions, over 4")
        *shape, kind, offset = self._numbers(f"{dimensions}QIQ")
        return name, kind, tuple(reversed(shape)), offset

    def _value(self, kind: int) -> Field | None:
        """A single value; None of an array, which is passed over."""
        if kind == _TEXT:
            return self._text(_LONGEST_TEXT)
        if kind in _FORMATS:
            value: Field = self._numbers(_FORMATS[kind])[0]
            return value
        if kind != _ARRAY:
            raise ValueError(f"a field of type {kind}")
        entry, count = self._numbers("IQ")
        self._take(count)
        if entry in _FORMATS:
            self._skip(count * struct.calcsize(f"<{_FORMATS[entry]}"))
        elif entry == _TEXT:
            for _ in range(count):
                self._text(_LONGEST_TOKEN)
        else:
            raise ValueError(f"an array of type {entry}")
        return None

    def _take(self, entries: int) -> None:
        self.room -= entries
        if self.room < 0:
            raise ValueError(f"more than {_MOST_ENTRIES} fields, tensors and entries of arrays")

    def _skip(self, count: int) -> None:
        self.place += count
        if self.place > min(len(self.data), _LARGEST_HEADER):
            raise ValueError(f"its header would reach byte {self.place} of {len(self.data)}")

    def _text(self, longest: int) -> str:
        (length,) = self._numbers("Q")
        if length > longest:
            raise ValueError(f"a text of {length} bytes, over {longest}")
        start = self.place
        self._skip(length)
        return self.data[start : self.place].decode()

    def _numbers(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self.data, self.place)
        self._skip(struct.calcsize(f"<{layout}"))
        return values


def _stored_bytes(kind: int, numbers: int) -> int:
    sizes: dict[int, tuple[int, int]] = _gguf().GGML_QUANT_SIZES
    block, size = sizes.get(kind, (1, 0))
    return numbers // block * size


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise ImportError("GGUF files need the library gguf; install the extra `spae[llm]`") from error
    return gguf
