"""From flags to a language model's words and embeddings."""

import dataclasses
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from pipelines.features.parts import VectorParts
from pipelines.words.endpoint import EndpointFlags, EndpointRows
from pipelines.words.files import read_sentencepiece, read_tiktoken, read_word_list
from pipelines.words.gguf_model import GgufModel
from pipelines.words.huggingface import HuggingFaceFolder
from pipelines.words.tokens import LanguageModel, RowSource, TableRows, Tokens
from spae.data.publishing import join
from spae.vocabulary.embedding_files import local_file, read_table_file
from spae.vocabulary.gguf_file import find_gguf


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """Whose words, and which of its embeddings."""

    llm: str
    """Language model: a Hugging Face folder, a hub id, a GGUF file (.gguf), an installed package that ships one of
    these (the folder as model/), or words alone: a tiktoken encoding (.tiktoken), a SentencePiece model (.model), or a
    list of words (.txt, .tsv), one a line, with word<TAB>count if it is not sorted."""
    llm_revision: str | None = None
    """Branch, tag or commit of a hub id."""
    tiktoken_settings: str | None = None
    """JSON file with a tiktoken encoding's special_tokens (text to id) and pattern."""
    embeddings_from: str = "input"
    """Of a Hugging Face model or a GGUF file: input embeddings, rows of the output layer, or what the model makes of
    each word alone: layer:N is the hidden state of layer N (0 is what enters the first), contextual that of the last.
    One of input, output, contextual, layer:N."""
    embeddings_before: str = ""
    """Text before each word whose hidden state is taken, such as <|endoftext|> for a decoder that starts with nothing
    of its own: whatever comes first there loses its meaning."""
    embeddings_tensor: str | None = None
    """Name of the table of embeddings, where it cannot be guessed."""
    vectors: str | None = None
    """File of embeddings, one row a token id: .safetensors, .npy or .gguf."""


@dataclass(frozen=True, kw_only=True)
class SourceFlags(EndpointFlags, ModelFlags):
    """Whose words, and which embeddings."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"input|output|contextual|layer:[0-9]{1,4}", self.embeddings_from):
            raise ValueError(
                f"--embeddings-from {self.embeddings_from} must be input, output, contextual, or layer:N with the "
                "number of a layer, as layer:12"
            )
        if self.embeddings_before and self.embeddings_from in ("input", "output"):
            raise ValueError("--embeddings-before needs hidden states: give --embeddings-from layer:N or contextual")
        if self.vectors is not None and self.embeddings_endpoint is not None:
            raise ValueError("--vectors and --embeddings-endpoint exclude each other; give one")
        if self.embeddings_from != "input" and (self.vectors is not None or self.embeddings_endpoint is not None):
            raise ValueError(f"--embeddings-from {self.embeddings_from} is of the model's own files")


def read_language_model(flags: SourceFlags, output: str) -> LanguageModel:
    """Words and embeddings that the flags name; rows that an endpoint gives are kept below the output.

    Raises:
        ValueError: they cannot be read, or do not belong together.
    """
    other = _other_rows(flags, output)
    kind = Path(flags.llm).suffix if os.path.isfile(flags.llm) else ""
    gguf = find_gguf(flags.llm)
    if gguf is not None or not kind:
        model = HuggingFaceFolder(flags.llm, flags.llm_revision) if gguf is None else GgufModel(gguf)
        tokens, before = model.tokens(), flags.embeddings_before
        return LanguageModel(tokens, other or model.rows(flags.embeddings_from, flags.embeddings_tensor, before))
    tokens = _read_file(flags, kind)
    if other is None:
        raise ValueError(
            f"--llm {flags.llm} is a file of words without embeddings; give --vectors FILE, or --embeddings-endpoint "
            "and --embeddings-model"
        )
    return LanguageModel(tokens, other)


def _read_file(flags: SourceFlags, kind: str) -> Tokens:
    if kind == ".tiktoken":
        return read_tiktoken(flags.llm, flags.tiktoken_settings)
    if kind == ".model":
        return read_sentencepiece(flags.llm)
    if kind in (".txt", ".tsv"):
        return read_word_list(flags.llm)
    known = ".gguf, .tiktoken, .model (SentencePiece), .txt and .tsv"
    raise ValueError(f"--llm {flags.llm}: words come in {known}, not {kind}")


def _other_rows(flags: SourceFlags, output: str) -> RowSource | None:
    """Embeddings that are not the model's own."""
    if flags.embeddings_endpoint is not None and flags.embeddings_model is not None:
        identity = json.dumps([flags.embeddings_endpoint, flags.embeddings_model])
        folder = f"rows-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        return EndpointRows(flags, VectorParts(join(output, "parts", folder)))
    if flags.vectors is None:
        return None
    try:
        with local_file(flags.vectors) as file:
            found, table = read_table_file(file, flags.embeddings_tensor)
    except Exception as error:  # safetensors, numpy and the stores have errors of their own
        raise ValueError(f"--vectors {flags.vectors} is no table of embeddings that can be read: {error}") from error
    rows = TableRows(found, table)
    return dataclasses.replace(rows, source=f"{found} of {Path(flags.vectors).name}, sha256:{rows.sha256}")
