"""The weights and tokenizer of a causal language model, as transformers opens them."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def open_weights(place: str, device: str, dtype: str | None) -> tuple[Any, Any]:
    """Model in eval mode and tokenizer of a local folder, a hub id or a local .gguf file.

    The code is transformers' own, never what lies beside the weights, and the weights are never a pickle.

    ValueError where nothing can be opened.
    """
    path = Path(place)
    where, options = place, {}
    if path.suffix == ".gguf":
        where, options = str(path.parent), {"gguf_file": path.name}
        if not path.is_file():
            raise ValueError(f"{place} is no file; give a local .gguf file, a folder or a hub id")
    if dtype is None:
        dtype = "float32" if torch.device(device).type == "cpu" else "auto"
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        model = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, use_safetensors=True, **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ValueError(
            f"{place} cannot be opened as a causal language model: {error}; give a folder or hub id with config.json, "
            "tokenizer and *.safetensors, or a .gguf file"
        ) from error
    return model.eval().requires_grad_(False).to(device), tokenizer


def weights_sha256(place: Path) -> str:
    """Of a .gguf file, or of a folder's weights one after the other."""
    digest = hashlib.sha256()
    for file in [place] if place.is_file() else sorted(place.glob("*.safetensors")):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()
