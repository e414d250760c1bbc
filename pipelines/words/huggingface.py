"""Words of a Hugging Face folder, a hub id or an installed package, without loading the model."""

import importlib.util
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import huggingface_hub
import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from pipelines.words.contextual import ContextualRows, Loaded, choose_layer
from pipelines.words.decoding import decode_tokens
from pipelines.words.tokens import NO_TOKEN, RowSource, TableRows, Tokens
from spae.vocabulary.embedding_files import INPUT_TENSORS, OUTPUT_TENSORS, read_model_table

_SMALL_FILES = ["*.json", "*.txt", "*.model"]


class HuggingFaceFolder:
    """A model's files.

    Args:
        name: a folder, a hub id, or an installed package that ships its model in model/.
        revision: branch, tag or commit of a hub id.

    Raises:
        ValueError: none of the three.
    """

    def __init__(self, name: str, revision: str | None = None) -> None:
        self.name = name
        self.folder, self.commit = _find_folder(name, revision)

    def tokens(self) -> Tokens:
        """The tokenizer's tokens as text; ValueError where there is no usable one."""
        name = self.name if self.commit else folder_name(self.folder)
        return make_tokens(self.name, name, self.commit, partial(AutoTokenizer.from_pretrained, self.folder))

    def rows(self, layer: str, tensor: str | None = None, before: str = "") -> RowSource:
        """The rows of a layer.

        Args:
            layer: input embeddings, rows of the output layer, or the hidden state of each word alone: of layer:N, or
                of the last for contextual.
            tensor: name of the table, where it cannot be guessed.
            before: text that stands before each word, where there are hidden states.
        """
        if layer not in ("input", "output"):
            folder = self.folder if not self.commit else Path(self._snapshot())
            number = choose_layer(layer, self._count_layers())
            return ContextualRows(str(folder), partial(_load, folder), number, before)
        tied = layer == "output" and tensor is None and self._is_tied()
        ends = OUTPUT_TENSORS if layer == "output" and not tied else INPUT_TENSORS
        try:
            found, table = read_model_table(self.folder, tensor, ends, self._fetch)
        except Exception as error:  # safetensors, the hub and JSON have errors of their own
            raise ValueError(
                f"{self.name} has no {layer} embeddings that can be read: {error}. Needed are model.safetensors, or "
                "model.safetensors.index.json and its files; other formats can be converted with transformers"
            ) from error
        return TableRows(f"{found} (the output layer is tied to it)" if tied else found, table)

    def _count_layers(self) -> int:
        try:
            return int(AutoConfig.from_pretrained(self.folder).get_text_config().num_hidden_layers)
        except Exception as error:  # transformers raises nearly anything for files that do not fit
            raise ValueError(f"{self.name} has no configuration that transformers can read: {error}") from error

    def _is_tied(self) -> bool:
        """Whether the output layer is the input embeddings; transformers' own default is yes."""
        config = self.folder / "config.json"
        values = json.loads(config.read_text()) if config.is_file() else {}
        return bool(values.get("tie_word_embeddings", values.get("text_config", {}).get("tie_word_embeddings", True)))

    def _fetch(self, file: str) -> Path:
        if not self.commit:
            return self.folder / file
        return Path(huggingface_hub.hf_hub_download(self.name, file, revision=self.commit))

    def _snapshot(self) -> str:
        patterns = [*_SMALL_FILES, "*.safetensors"]
        return huggingface_hub.snapshot_download(self.name, revision=self.commit, allow_patterns=patterns)


def make_tokens(llm: str, name: str, revision: str, load: Callable[[], PreTrainedTokenizerBase]) -> Tokens:
    """The tokens of the tokenizer that `load` gives, as text; ValueError names `llm` where it is not usable."""
    try:
        tokenizer = load()
        texts, reasons = decode_tokens(tokenizer)
    except ImportError:
        raise
    except Exception as error:  # whatever a tokenizer's files can break in transformers and tokenizers
        reason = " ".join(str(error).split()) or repr(error)
        raise ValueError(f"{llm} has no usable tokenizer: {reason}") from error
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.no_truncation()
    return Tokens(name, revision, texts, reasons, partial(_split, backend))


def _load(folder: Path) -> Loaded:
    model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(folder)


def _split(backend: Tokenizer, text: str) -> list[int]:
    try:
        return list(backend.encode(text, add_special_tokens=False).ids)
    except Exception:  # raised, without a class of its own, by a model without an unknown token for what it lacks
        return [NO_TOKEN]


def folder_name(folder: Path) -> str:
    """What a local folder's model is called: its last name that says something."""
    parts = [part for part in folder.resolve().parts if part not in ("model", "/")]
    return parts[-1]


def _find_folder(name: str, revision: str | None) -> tuple[Path, str]:
    """The folder with the tokenizer, and the commit if it comes from the hub."""
    if Path(name).is_dir():
        return Path(name), ""
    package = importlib.util.find_spec(name) if name.isidentifier() else None
    if package and package.submodule_search_locations:
        return Path(package.submodule_search_locations[0]) / "model", ""
    try:
        folder = Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=_SMALL_FILES))
    except Exception as error:  # the hub's client raises its own, HTTP's and the disk's errors
        raise ValueError(
            f"--llm {name}: no such folder or package, no file of words, and not to be had from the hub: {error}"
        ) from error
    return folder, folder.name
