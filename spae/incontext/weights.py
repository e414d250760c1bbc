"""The weights and tokenizer of a causal language model, as transformers opens them.

The code is transformers' own, never what lies beside the weights, and the weights are never a pickle.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

_FORMS = "give a folder or hub id with config.json, tokenizer and *.safetensors, or a local .gguf file"

_OWN = {"trust_remote_code": False}
"""Said, because transformers would otherwise ask in a terminal."""


def open_weights(place: str, device: str, dtype: str | None) -> Any:
    """A causal language model in eval mode from a local folder, a hub id or a local .gguf file.

    ValueError where nothing can be opened.
    """
    where, options = _arguments(place)
    if dtype is None:
        dtype = "float32" if torch.device(device).type == "cpu" else "auto"
    try:
        model = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, use_safetensors=True, **_OWN, **options)
    except Exception as error:  # whatever a damaged file or a missing package brings about in transformers
        raise ValueError(f"{place} cannot be opened as a causal language model: {error}; {_FORMS}") from error
    return model.eval().requires_grad_(False).to(device)


def open_tokenizer(place: str) -> Any:
    """The tokenizer alone; ValueError where there is none."""
    where, options = _arguments(place)
    try:
        return AutoTokenizer.from_pretrained(where, **_OWN, **options)
    except Exception as error:  # as above
        raise ValueError(f"{place} holds no tokenizer that can be opened: {error}; {_FORMS}") from error


def weights_sha256(place: Path) -> str:
    """Of a .gguf file, or of a folder's weights one after the other."""
    digest = hashlib.sha256()
    for file in [place] if place.is_file() else sorted(place.glob("*.safetensors")):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()


def _arguments(place: str) -> tuple[str, dict[str, str]]:
    path = Path(place)
    if path.suffix != ".gguf":
        return place, {}
    if not path.is_file():
        raise ValueError(f"{place} is no file; {_FORMS}")
    return str(path.parent), {"gguf_file": path.name}
