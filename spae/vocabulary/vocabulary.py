"""The words of a frozen language model as a codebook, and what CLIP knows of each of them.

A vocabulary folder holds `words.parquet` (id, llm_id, word), `embeddings.safetensors` (the table in use),
`transform.safetensors` (how it came from the model's own rows), `semantics.safetensors` (CLIP's text features) and
`vocabulary.json`, written last: a folder without it is unfinished. Embeddings that may not be republished are referred
to instead (`record.embeddings`): the folder then holds hash and source of the rows, and loading finds them. Two
fingerprints cover the content and no path: one of the words and their embeddings, which governs tokens and decoding,
and one of the CLIP that judged the words.
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from spae.config import from_dict, to_dict
from spae.data.publishing import delete, join, publish
from spae.data.records import read_parquet
from spae.pyramid import TokenPyramid
from spae.vocabulary.record import RoundTripRecord, SemanticsRecord, TableName, VocabularyRecord
from spae.vocabulary.references import TableReference, find_table, keep_table, pack_table

FORMAT_VERSION = 1

_WORDS_SCHEMA = pa.schema(
    [pa.field("id", pa.int32(), False), pa.field("llm_id", pa.int32(), False), pa.field("word", pa.string(), False)]
)
_FIRST = ("llm", "llm_revision", "embeddings_source", "table", "scale", "counts", "semantics")  # in every folder
_WIDEST = 16  # times the table's width: the widest rows that may have been projected to it
_LARGEST_RECORD = 64 * 2**20  # bytes of vocabulary.json, which bounds what is read of the other files
_LARGEST_WORD = 2**12  # bytes a word may take in words.parquet, on average
_HEADER = 2**20  # bytes a file may hold beyond that
_UNREADABLE = (
    *(OSError, pa.ArrowException, SafetensorError),
    *(AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError),  # JSON of another form
)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """K words with their embeddings and, if CLIP judged them, their text features.

    Args:
        word_list: the K words in id order, all different.
        llm_ids: int64 (K,), the tokens of the language model they stand for, all different.
        embeddings: float32 (K, C), the table in use, already transformed.
        semantics: float32 (K, E), mean of the unit-norm prompt features (equation 5), or None.
        record: where all this comes from.
        transform: tensors that lead from the language model's rows to `embeddings`: {"mean": (W,)} and, of a
            projected table, {"projection": (W, C)}, or nothing.
    """

    word_list: tuple[str, ...]
    llm_ids: Tensor
    embeddings: Tensor
    semantics: Tensor | None
    record: VocabularyRecord
    transform: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        words = len(self.word_list)
        if words == 0 or len(set(self.word_list)) != words:
            raise ValueError(f"{words} words of which {len(set(self.word_list))} differ: need at least one, each once")
        if self.llm_ids.dtype != torch.int64 or self.llm_ids.shape != (words,) or len(self.llm_ids.unique()) != words:
            raise ValueError(f"llm_ids {tuple(self.llm_ids.shape)} must be int64 ({words},), each id once")
        _check_matrix("embeddings", self.embeddings, words)
        if (self.semantics is None) != (self.record.semantics is None):
            raise ValueError("semantics and record.semantics belong together; give both or neither")
        if self.semantics is not None:
            _check_matrix("semantics", self.semantics, words)

    def __len__(self) -> int:
        """Number of words K."""
        return len(self.word_list)

    @property
    def width(self) -> int:
        """Width C of an embedding."""
        return int(self.embeddings.shape[1])

    @cached_property
    def words_fingerprint(self) -> str:
        """sha256 over words, ids, embeddings and their transform: equal where tokens mean and decode to the same."""
        digest = hashlib.sha256(_canonical([FORMAT_VERSION, self.word_list, self.record.table, self.record.scale]))
        tensors = {"embeddings": self.embeddings, "llm_ids": self.llm_ids, **self.transform}
        for name in sorted(tensors):
            digest.update(_canonical([name, list(tensors[name].shape), str(tensors[name].dtype)]))
            digest.update(_bytes(tensors[name]))
        return digest.hexdigest()

    @cached_property
    def semantics_fingerprint(self) -> str | None:
        """sha256 over CLIP, its weights and preparation, the prompts and the words; None without semantics."""
        if self.record.semantics is None:
            return None
        content = to_dict(self.record.semantics)
        for information in ("clip", "clip_weights", "golden_cosine", "template_set"):
            del content[information]
        return hashlib.sha256(_canonical([FORMAT_VERSION, content, self.word_list])).hexdigest()

    def words(self, pyramid: TokenPyramid, layers: int | None = None) -> list[list[str]]:
        """The words of each image or clip, layer by layer, raster order inside a layer; the first layers or all."""
        ids = pyramid.flatten(layers)
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(self):
            raise ValueError(
                f"ids {int(ids.min())} to {int(ids.max())} are outside this vocabulary of {len(self)} words; "
                "take the vocabulary of the model that made the tokens"
            )
        return [[self.word_list[number] for number in row] for row in ids.tolist()]

    def without_semantics(self) -> "Vocabulary":
        """The words and embeddings alone, all that encoding and decoding need."""
        return dataclasses.replace(self, semantics=None, record=dataclasses.replace(self.record, semantics=None))

    def first(self, words: int) -> "Vocabulary":
        """The first words alone; ValueError where there are fewer, or the table could not be found again."""
        if words > len(self):
            raise ValueError(f"the vocabulary has {len(self)} words, fewer than the {words} asked for")
        record = self.record
        if record.embeddings == "reference" and words < len(self):
            raise ValueError(
                f"embeddings by reference are of all {len(self)} words; build one with --max-words {words}"
            )
        if record.round_trip is not None:
            record = dataclasses.replace(record, round_trip=record.round_trip.first(words))
        return dataclasses.replace(
            self,
            record=record,
            word_list=self.word_list[:words],
            llm_ids=self.llm_ids[:words],
            embeddings=self.embeddings[:words],
            semantics=None if self.semantics is None else self.semantics[:words],
        )

    def with_table(self, embeddings: Tensor, table: TableName) -> "Vocabulary":
        """The same words with another table (K, any width), without semantics and transform."""
        record = dataclasses.replace(self.record, table=table, semantics=None, embeddings="stored", rows_sha256="")
        return dataclasses.replace(self, embeddings=embeddings, semantics=None, record=record, transform={})

    def words_parquet(self) -> bytes:
        """`words.parquet` (id, llm_id, word); beside a token table it lets SQL join ids to words."""
        columns = [list(range(len(self))), self.llm_ids.tolist(), list(self.word_list)]
        buffer = io.BytesIO()
        pq.write_table(pa.table(columns, schema=_WORDS_SCHEMA), buffer, compression="zstd")
        return buffer.getvalue()

    def save(self, url: str) -> None:
        """Write the folder `url` (any fsspec URL), whole or not at all: vocabulary.json goes first and comes last."""
        files = {"words.parquet": self.words_parquet()}
        if self.record.embeddings == "stored":
            files["embeddings.safetensors"] = pack_table(self.embeddings)
        if self.transform:
            files["transform.safetensors"] = _pack(self.transform)
        if self.semantics is not None:
            files["semantics.safetensors"] = _pack({"semantics": self.semantics})
        for name in ("vocabulary.json", *(f"{part}.safetensors" for part in ("embeddings", "transform", "semantics"))):
            if name not in files:
                delete(join(url, name))
        for name, data in files.items():
            publish(join(url, name), data)
        checksums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
        description = {"format_version": FORMAT_VERSION, **self._identity(), **to_dict(self.record), "files": checksums}
        publish(join(url, "vocabulary.json"), json.dumps(description, indent=1, ensure_ascii=False).encode())

    def _identity(self) -> dict[str, Any]:
        """Sizes and fingerprints, as vocabulary.json tells them."""
        return {
            "words": len(self),
            "width": self.width,
            "semantics_width": None if self.semantics is None else int(self.semantics.shape[1]),
            "words_fingerprint": self.words_fingerprint,
            "semantics_fingerprint": self.semantics_fingerprint,
        }

    @classmethod
    def load(cls, url: str, embeddings: str | None = None) -> "Vocabulary":
        """Read the folder `url` (any fsspec URL) and check all of it against its own record.

        Args:
            url: the folder.
            embeddings: where the rows are that the folder only refers to (`spae.vocabulary.references.find_table`),
                needed once: they are kept for later loads.

        Raises:
            ValueError: the folder is missing, unfinished, damaged, of another format version, or its parts differ from
                what vocabulary.json says.
        """
        try:
            return _load(url, embeddings)
        except _UNREADABLE as error:
            reason = f"no {error.args[0]!r} in it" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"{url} is not a usable vocabulary folder: {reason}. Build one with `python -m pipelines.vocabulary`."
            ) from error


def _load(url: str, embeddings: str | None) -> Vocabulary:
    description = json.loads(_read(join(url, "vocabulary.json"), _LARGEST_RECORD))
    if description["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format_version {description['format_version']} is not {FORMAT_VERSION}, which is read here")
    words, width, files = int(description["words"]), int(description["width"]), description["files"]

    def tensors(name: str, numbers: int) -> dict[str, Tensor]:
        return safetensors.torch.load(_read(join(url, name), 4 * numbers + _HEADER, files[name]))

    table = read_parquet(_read(join(url, "words.parquet"), words * _LARGEST_WORD + _HEADER, files["words.parquet"]))
    table = table.select(_WORDS_SCHEMA.names).cast(_WORDS_SCHEMA)
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
    vocabulary = Vocabulary(
        word_list=tuple(table["word"].to_pylist()),
        llm_ids=llm_ids,
        embeddings=rows,
        semantics=semantics,
        record=record,
        transform=transform,
    )
    for name, found in vocabulary._identity().items():
        if found != description[name]:
            raise ValueError(f"its {name} is {found}, but vocabulary.json says {description[name]}")
    if record.embeddings == "reference" and embeddings is not None:
        keep_table(vocabulary.words_fingerprint, rows)
    return vocabulary


def _record(description: Mapping[str, Any]) -> VocabularyRecord:
    fields = dataclasses.fields(VocabularyRecord)
    values = {item.name: description[item.name] for item in fields if item.name in description or item.name in _FIRST}
    nested = {"semantics": SemanticsRecord, "round_trip": RoundTripRecord}
    for name, kind in nested.items():
        if values.get(name) is not None:
            values[name] = from_dict(kind, values[name])
    values["counts"] = {reason: int(count) for reason, count in values["counts"].items()}
    values["dropped_words"] = {reason: tuple(words) for reason, words in values.get("dropped_words", {}).items()}
    return from_dict(VocabularyRecord, values)


def _check_matrix(name: str, matrix: Tensor, words: int) -> None:
    if matrix.dtype != torch.float32 or matrix.ndim != 2 or matrix.shape[0] != words or matrix.shape[1] == 0:
        raise ValueError(f"{name} {tuple(matrix.shape)} {matrix.dtype} must be float32 ({words}, width)")
    if not bool(torch.isfinite(matrix).all()):
        row = int((~torch.isfinite(matrix).all(1)).nonzero()[0])
        raise ValueError(f"{name} row {row} holds NaN or infinity; drop that word")


def _canonical(content: Sequence[Any]) -> bytes:
    return json.dumps(content, sort_keys=True, ensure_ascii=True).encode()


def _bytes(tensor: Tensor) -> bytes:
    array = tensor.detach().cpu().contiguous().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


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
