"""Embeddings that a vocabulary refers to: found at their source, checked by hash, and kept on this machine.

Some models' embeddings may be used and not republished. A vocabulary of such rows holds their hash and where they came
from. Whoever has the source names it once; the table in use is then kept in a folder of one's own, by the fingerprint
of the words: ~/.cache/spae/embeddings, or what the environment's SPAE_EMBEDDINGS names, a folder that all workers see.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from spae.data.publishing import join, publish, read_bytes
from spae.vocabulary.embedding_files import local_file, read_model_table, read_table_file
from spae.vocabulary.record import VocabularyRecord
from spae.vocabulary.transforms import apply_transform, rows_sha256

CACHE_VARIABLE = "SPAE_EMBEDDINGS"


@dataclass(frozen=True)
class TableReference:
    """A table that is not stored."""

    fingerprint: str
    """Of the words and the table in use."""
    record: VocabularyRecord
    llm_ids: Tensor
    shape: tuple[int, int]
    transform: Mapping[str, Tensor]


def find_table(reference: TableReference, place: str | None) -> Tensor:
    """The table in use (K, C).

    Args:
        reference: which table.
        place: a local Hugging Face folder of the language model, a file with its rows in the order of token ids
            (.safetensors, .npy, the model's .gguf, any fsspec URL), or a local vocabulary folder of the same words that
            stores the table; None looks where tables are kept.

    Raises:
        ValueError: nothing is there, or other rows than the reference's.
    """
    if place is None:
        kept = read_bytes(_url(reference.fingerprint))
        if kept is None:
            raise ValueError(f"its embeddings are not stored but referred to: {_wanted(reference.record)}")
        return _shaped(safetensors.torch.load(kept)["embeddings"], reference.shape)
    try:
        rows = _read(place, reference)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        wanted = _wanted(reference.record)
        raise ValueError(f"embeddings={place} cannot be read: {error}; needed are {wanted}") from error
    if rows is None:
        raise ValueError(f"embeddings={place} holds other rows; needed are {_wanted(reference.record)}")
    return _shaped(rows, reference.shape)


def keep_table(fingerprint: str, table: Tensor) -> str:
    """Keep a table for later loads; where it is kept."""
    url = _url(fingerprint)
    publish(url, pack_table(table))
    return url


def pack_table(table: Tensor) -> bytes:
    """The content of `embeddings.safetensors`."""
    return safetensors.torch.save({"embeddings": table.detach().cpu().contiguous()})


def _read(place: str, reference: TableReference) -> Tensor | None:
    """The table in use from what lies there; None where it is of other rows."""
    tensor = reference.record.embeddings_source.split(" ", 1)[0]
    with local_file(place) as local:
        if local.is_dir() and not (local / "words.parquet").is_file():
            name, table = read_model_table(local, tensor)
        elif local.suffix == ".gguf":
            name, table = read_table_file(local, tensor)
        else:
            name, table = read_table_file(local / "embeddings.safetensors" if local.is_dir() else local)
    if int(reference.llm_ids.max()) < len(table):
        rows = table[reference.llm_ids].float()
        if rows_sha256(rows) == reference.record.rows_sha256:
            return apply_transform(rows, reference.transform)
    return table[: reference.shape[0]] if name == "embeddings" else None


def _shaped(table: Tensor, shape: tuple[int, int]) -> Tensor:
    if table.shape != shape:
        raise ValueError(f"a table {tuple(table.shape)} was found where {shape} is needed")
    return table


def _wanted(record: VocabularyRecord) -> str:
    return (
        f"the rows {record.embeddings_source} of {record.llm} ({record.llm_revision}); get that model and give its "
        "folder once as Vocabulary.load(url, embeddings=FOLDER) or SPAE.from_pretrained(folder, embeddings=FOLDER)"
    )


def _url(fingerprint: str) -> str:
    folder = os.environ.get(CACHE_VARIABLE) or os.path.expanduser("~/.cache/spae/embeddings")
    return join(folder, f"{fingerprint}.safetensors")
