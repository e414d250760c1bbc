"""Tables of embeddings as models publish them: a tensor of safetensors or GGUF files, or a numpy file.

Nothing is unpickled.
"""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath

import fsspec
import numpy as np
import torch
from fsspec.implementations.local import LocalFileSystem
from safetensors import safe_open
from torch import Tensor

from spae.vocabulary.gguf_file import GgufFile

INPUT_TENSORS = (
    "word_embeddings.weight",  # BERT and kin, BLOOM, Falcon
    "embed_tokens.weight",  # LLaMA, Mistral, Qwen, Gemma, OPT
    "wte.weight",  # GPT-2
    "embed_in.weight",  # GPT-NeoX
    "shared.weight",  # T5
    "tok_embeddings.weight",  # ModernBERT, InternLM
    "token_embd.weight",  # GGUF files
)
"""Ends of the names that model families give their input embeddings."""
OUTPUT_TENSORS = (
    "lm_head.weight",  # most
    "embed_out.weight",  # GPT-NeoX
    "predictions.decoder.weight",  # BERT
    "lm_head.decoder.weight",  # RoBERTa
    "output.weight",  # InternLM, GGUF files
)
"""Ends of the names that model families give the rows of their output layer."""
_INDEX, _WEIGHTS = "model.safetensors.index.json", "model.safetensors"


def read_model_table(
    folder: Path,
    tensor: str | None = None,
    ends: tuple[str, ...] = INPUT_TENSORS,
    fetch: Callable[[str], Path] | None = None,
) -> tuple[str, Tensor]:
    """Name and rows (V, C) of one tensor of a model; of several files only the one that holds it is opened.

    Args:
        folder: with the index, if there are several files.
        tensor: its name, where `ends` cannot tell it.
        ends: ends of likely names.
        fetch: from a file's name to where it lies; in the folder by default.

    Raises:
        ValueError: there is no such tensor, or it is no table.
        OSError, SafetensorError: files that cannot be read.
    """
    path = fetch or (lambda file: folder / file)
    if (folder / _INDEX).is_file():
        places: dict[str, str] = json.loads((folder / _INDEX).read_text())["weight_map"]
    else:
        with safe_open(path(_WEIGHTS), "pt") as weights:
            places = dict.fromkeys(weights.keys(), _WEIGHTS)
    found = choose_tensor(places, tensor, ends)
    if PurePath(places[found]).name != places[found]:
        raise ValueError(f"{_INDEX} says that {found} is in {places[found]!r}, which is no file of the folder")
    return found, read_tensor(path(places[found]), found)


def read_table_file(path: Path, tensor: str | None = None) -> tuple[str, Tensor]:
    """Name and rows (V, C) of a .npy file, or of one tensor (it may be named) of a .safetensors or .gguf file."""
    if path.suffix == ".gguf":
        file = GgufFile(path)
        found = choose_tensor(file.tensors, tensor, INPUT_TENSORS)
        return found, file.table(found)
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        _check_table(path.name, array.shape, np.issubdtype(array.dtype, np.floating))
        return path.name, torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
    with safe_open(path, "pt") as weights:
        names = list(weights.keys())
    if tensor is None and len(names) == 1:
        tensor = names[0]
    found = choose_tensor(names, tensor, INPUT_TENSORS)
    return found, read_tensor(path, found)


@contextlib.contextmanager
def local_file(url: str) -> Iterator[Path]:
    """A file of any file system as one of this machine, while the block runs."""
    file_system, path = fsspec.url_to_fs(url)
    if isinstance(file_system, LocalFileSystem):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="spae-") as folder:
        copy = Path(folder) / PurePath(path).name
        file_system.get_file(path, str(copy))
        yield copy


def read_tensor(path: Path, name: str) -> Tensor:
    """A table (V, C) of a safetensors file; its shape is looked at before a byte of it is read."""
    with safe_open(path, "pt") as file:
        part = file.get_slice(name)
        _check_table(name, part.get_shape(), "F" in part.get_dtype())
        return file.get_tensor(name)


def choose_tensor(names: Iterable[str], wanted: str | None, ends: tuple[str, ...]) -> str:
    """The wanted name, or the shortest one with the first of the ends that occurs; ValueError where there is none."""
    known = sorted(names)
    if wanted is not None:
        if wanted not in known:
            raise ValueError(f"no tensor {wanted!r} among {', '.join(known[:20])}")
        return wanted
    for end in ends:
        if matches := [name for name in known if name == end or name.endswith(f".{end}")]:
            return min(matches, key=len)
    raise ValueError(f"no tensor is called {', '.join(ends)}; name it with --embeddings-tensor")


def _check_table(name: str, shape: Iterable[int], floating: bool) -> None:
    shape = tuple(shape)
    if len(shape) != 2 or 0 in shape or not floating:
        raise ValueError(f"{name} of shape {shape} is not a table of embeddings in floating point")
