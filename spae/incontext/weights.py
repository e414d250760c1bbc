"""The weights and tokenizer of a causal language model, as transformers opens them.

The code is transformers' own, never what lies beside the weights, and the weights are never a pickle.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from spae.incontext.text_tokens import TextTokens
from spae.vocabulary.gguf_file import GgufFile, alone, find_gguf

_FORMS = "give a folder or hub id with config.json, tokenizer and *.safetensors, or a local .gguf file"


def open_weights(place: str, device: str, dtype: str | None) -> Any:
    """A causal language model in eval mode from a local folder, a hub id, a .gguf file or a package that ships one.

    ValueError where nothing can be opened.
    """
    if dtype is None:
        dtype = "float32" if torch.device(device).type == "cpu" else "auto"
    try:
        with _arguments(place) as (where, options):
            model = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, use_safetensors=True, **options)
    except Exception as error:  # whatever a damaged file or a missing package brings about in transformers
        raise ValueError(f"{place} cannot be opened as a causal language model: {error}; {_FORMS}") from error
    return model.eval().requires_grad_(False).to(device)


def open_tokenizer(place: str) -> Any:
    """The tokenizer alone; ValueError where there is none."""
    try:
        with _arguments(place) as (where, options):
            return AutoTokenizer.from_pretrained(where, **options)
    except Exception as error:  # as above
        raise ValueError(f"{place} holds no tokenizer that can be opened: {error}; {_FORMS}") from error


def open_config(place: str) -> Any:
    """What transformers knows of the model without its weights; ValueError where there is none."""
    try:
        with _arguments(place) as (where, options):
            return AutoConfig.from_pretrained(where, **options)
    except Exception as error:  # as above
        raise ValueError(f"{place} holds no configuration that can be opened: {error}; {_FORMS}") from error


def context_tokens(config: Any) -> int:
    """Tokens that the model can see at once."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", 1 << 30))


class LocalTokens:
    """What counts a local model's tokens as `TransformersModel` does, without its weights; ValueError as above."""

    def __init__(self, place: str) -> None:
        self.context_tokens = context_tokens(open_config(place))
        self._tokens = TextTokens(open_tokenizer(place))

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, the mark of a beginning included."""
        return len(self._tokens.ids(text))


def weights_revision(place: str) -> str:
    """The hub's commit, else the sha256 of the weights; ValueError where there is no model."""
    if find_gguf(place) is None and (commit := getattr(open_config(place), "_commit_hash", None)):
        return str(commit)
    return weights_sha256(place)


def weights_sha256(place: str) -> str:
    """Of a .gguf file, or of a local folder's weights one after the other."""
    path = find_gguf(place) or Path(place)
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.glob("*.safetensors")):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _arguments(place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where transformers shall look, and how."""
    options: dict[str, Any] = {"trust_remote_code": False}  # said, because it would otherwise ask in a terminal
    path = find_gguf(place)
    if path is None:
        yield place, options
        return
    GgufFile(path)  # transformers does not end on a file that promises more than it holds
    with alone(path) as folder:
        yield str(folder), options | {"gguf_file": path.name}
