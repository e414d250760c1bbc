"""Words and rows of a GGUF file, or of an installed package that ships one."""

import hashlib
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from pipelines.words.contextual import ContextualRows, Loaded, choose_layer
from pipelines.words.huggingface import make_tokens
from pipelines.words.tokens import RowSource, TableRows, Tokens
from spae.vocabulary.embedding_files import INPUT_TENSORS, OUTPUT_TENSORS, choose_tensor
from spae.vocabulary.gguf_file import GgufFile, alone


class GgufModel:
    """A model in one GGUF file.

    Args:
        path: a local file.

    Raises:
        ValueError: it is none, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = GgufFile(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"--llm: {error}") from error

    def tokens(self) -> Tokens:
        """The tokenizer's tokens as transformers reads them; ValueError where there is no usable one."""
        with self.path.open("rb") as file:
            revision = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        return make_tokens(str(self.path), self.path.stem, revision, partial(_load_tokenizer, self.path))

    def rows(self, layer: str, tensor: str | None = None, before: str = "") -> RowSource:
        """The rows of a layer, with the arguments of HuggingFaceFolder.rows; ValueError where there are none."""
        if layer not in ("input", "output"):
            layers = self.file.fields.get(f"{self.file.fields.get('general.architecture')}.block_count", 0)
            number = choose_layer(layer, int(layers))
            return ContextualRows(str(self.path), partial(_load, self.path), number, before)
        untied = any(name in self.file.tensors for name in OUTPUT_TENSORS)
        tied = layer == "output" and tensor is None and not untied
        ends = OUTPUT_TENSORS if layer == "output" and not tied else INPUT_TENSORS
        try:
            found = choose_tensor(self.file.tensors, tensor, ends)
            table = self.file.table(found)
        except ValueError as error:
            raise ValueError(f"{self.path} has no {layer} embeddings that can be read: {error}") from error
        source = f"{found} of {self.file.kind(found)}"
        return TableRows(f"{source} (the output layer is tied to it)" if tied else source, table)


def _load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The file's tokenizer; AutoTokenizer gives the same, after 5 s in which it reads the configuration."""
    with alone(path) as folder:
        return PreTrainedTokenizerFast.from_pretrained(folder, gguf_file=path.name)


def _load(path: Path) -> Loaded:
    with alone(path) as folder:
        model = AutoModel.from_pretrained(folder, gguf_file=path.name, dtype=torch.float32)
    return model, _load_tokenizer(path)
