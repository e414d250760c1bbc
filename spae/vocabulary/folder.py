"""A vocabulary on disk, checked against its own record.

A folder holds `words.parquet` (id, llm_id, word), `embeddings.safetensors` (the table in use), `transform.safetensors`
(how it came from the model's own rows), `semantics.safetensors` (CLIP's text features) and `vocabulary.json`, written
last: a folder without it is unfinished. Embeddings that may not be republished are referred to instead
(`record.embeddings`): the folder then holds hash and source of the rows, and loading finds them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from spae.config import from_dict, to_dict
from spae.data.publishing import delete, join, publish
from spae.data.records import read_parquet
from spae.vocabulary.record import FORMAT_VERSION, ROW_LENGTH, RoundTripRecord, SemanticsRecord, VocabularyRecord
from spae.vocabulary.references import TableReference, find_table, keep_table, pack_table

if TYPE_CHECKING:
    from spae.vocabulary.vocabulary import Vocabulary

WORDS_SCHEMA = pa.schema(
    [pa.field("id", pa.int32(), False), pa.field("llm_id", pa.int32(), False), pa.field("word", pa.string(), False)]
)
"""Columns of words.parquet."""
_FIRST = ("llm", "llm_revision", "embeddings_source", "table", "counts", "semantics")  # in every folder
_WIDEST = 16  # times the table's width: the widest rows that may have been projected to it
_LARGEST_RECORD = 64 * 2**20  # bytes of vocabulary.json, which bounds what is read of the other files
_LARGEST_WORD = 2**12  # bytes a word may take in words.parquet, on average
_HEADER = 2**20  # bytes a file may hold beyond that
_UNREADABLE = (
    *(OSError, pa.ArrowException, SafetensorError),
    *(AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError),  # JSON of another form
)


def save_folder(vocabulary: "Vocabulary", url: str) -> None:
    """Write the folder `url` (any fsspec URL), whole or not at all: vocabulary.json goes first and comes last."""
    files = {"words.parquet": vocabulary.words_parquet()}
    if vocabulary.record.embeddings == "stored":
        files["embeddings.safetensors"] = pack_table(vocabulary.embeddings)
    if vocabulary.transform:
        files["transform.safetensors"] = _pack(vocabulary.transform)
    if vocabulary.semantics is not None:
        files["semantics.safetensors"] = _pack({"semantics": vocabulary.semantics})
    for name in ("vocabulary.json", *(f"{part}.safetensors" for part in ("embeddings", "transform", "semantics"))):
        if name not in files:
            delete(join(url, name))
    for name, data in files.items():
        publish(join(url, name), data)
    description = {"format_version": FORMAT_VERSION, **vocabulary.identity(), "scale": ROW_LENGTH}
    description |= to_dict(vocabulary.record)
    description["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    publish(join(url, "vocabulary.json"), json.dumps(description, indent=1, ensure_ascii=False).encode())


def load_folder(kind: type["Vocabulary"], url: str, embeddings: str | None) -> "Vocabulary":
    """Read a folder as a Vocabulary; arguments and errors as `Vocabulary.load` tells."""
    try:
        return _load(kind, url, embeddings)
    except _UNREADABLE as error:
        reason = f"no {error.args[0]!r} in it" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{url} is not a usable vocabulary folder: {reason}. Build one with `python -m pipelines.vocabulary`."
        ) from error


def _load(kind: type["Vocabulary"], url: str, embeddings: str | None) -> "Vocabulary":
    description = json.loads(_read(join(url, "vocabulary.json"), _LARGEST_RECORD))
    if description["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format_version {description['format_version']} is not {FORMAT_VERSION}, which is read here")
    words, width, files = int(description["words"]), int(description["width"]), description["files"]

    def tensors(name: str, numbers: int) -> dict[str, Tensor]:
        return safetensors.torch.load(_read(join(url, name), 4 * numbers + _HEADER, files[name]))

    table = read_parquet(_read(join(url, "words.parquet"), words * _LARGEST_WORD + _HEADER, files["words.parquet"]))
    table = table.select(WORDS_SCHEMA.names).cast(WORDS_SCHEMA)
    if table["id"].to_pylist() != list(range(words)):
        raise ValueError(f"words.parquet must hold the ids 0 to {words - 1} in order")
    semantics = None
    if description["semantics_width"] is not None:
        semantics = tensors("semantics.safetensors", words * int(description["semantics_width"]))["semantics"]
    record, llm_ids = _record(description), torch.tensor(table["llm_id"].to_pylist(), dtype=torch.int64)
    transform = tensors("transform.safetensors", _WIDEST * width * width) if "transform.safetensors" in files else {}
    if record.embeddings == "stored":
        rows = tensors("embeddings.safetensors", words * width)["embeddings"]
    else:
        fingerprint = str(description["words_fingerprint"])
        rows = find_table(TableReference(fingerprint, record, llm_ids, (words, width), transform), embeddings)
    vocabulary = kind(
        word_list=tuple(table["word"].to_pylist()),
        llm_ids=llm_ids,
        embeddings=rows,
        semantics=semantics,
        record=record,
        transform=transform,
    )
    for name, found in vocabulary.identity().items():
        if found != description[name]:
            raise ValueError(f"its {name} is {found}, but vocabulary.json says {description[name]}")
    if record.embeddings == "reference" and embeddings is not None:
        keep_table(vocabulary.words_fingerprint, rows)
    return vocabulary


def _record(description: Mapping[str, Any]) -> VocabularyRecord:
    fields = dataclasses.fields(VocabularyRecord)
    values = {item.name: description[item.name] for item in fields if item.name in description or item.name in _FIRST}
    if values["semantics"] is not None:  # a mark that nothing ever set
        values["semantics"] = {key: value for key, value in values["semantics"].items() if key != "renormalised"}
    nested = {"semantics": SemanticsRecord, "round_trip": RoundTripRecord}
    for name, kind in nested.items():
        if values.get(name) is not None:
            values[name] = from_dict(kind, values[name])
    values["counts"] = {reason: int(count) for reason, count in values["counts"].items()}
    values["dropped_words"] = {reason: tuple(words) for reason, words in values.get("dropped_words", {}).items()}
    return from_dict(VocabularyRecord, values)


def _pack(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def _read(url: str, limit: int, sha256: str | None = None) -> bytes:
    """Bytes of a file, refused where it is larger than its record allows or another than was written."""
    with fsspec.open(url, "rb") as file:
        data: bytes = file.read(limit + 1)
    name = url.rsplit("/", 1)[-1]
    if len(data) > limit:
        raise ValueError(f"{name} is larger than the {limit} bytes that its record allows")
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(
            f"{name} ({len(data)} bytes) is damaged or of another vocabulary: its sha256 is not the recorded one"
        )
    return data
