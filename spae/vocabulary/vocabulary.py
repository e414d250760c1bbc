"""The words of a frozen language model as a codebook, and what CLIP knows of each of them.

Two fingerprints cover the content and no path: one of the words and their embeddings, which governs tokens and
decoding, and one of the CLIP that judged the words. `spae/vocabulary/folder.py` keeps all of it on disk.
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from spae.config import to_dict
from spae.pyramid import TokenPyramid
from spae.vocabulary.folder import WORDS_SCHEMA, load_folder, save_folder
from spae.vocabulary.record import FORMAT_VERSION, ROW_LENGTH, TableName, VocabularyRecord


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
        digest = hashlib.sha256(_canonical([FORMAT_VERSION, self.word_list, self.record.table, ROW_LENGTH]))
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
        content["renormalised"] = False  # equation 5 takes the mean of unit features as it is
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
        pq.write_table(pa.table(columns, schema=WORDS_SCHEMA), buffer, compression="zstd")
        return buffer.getvalue()

    def save(self, url: str) -> None:
        """Write the folder `url` (any fsspec URL), whole or not at all: vocabulary.json goes first and comes last."""
        save_folder(self, url)

    def identity(self) -> dict[str, Any]:
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
        return load_folder(cls, url, embeddings)


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
