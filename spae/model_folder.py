"""A model on disk: `config.json`, `model.safetensors` and `vocabulary/`; the folder stands alone, nothing is a pickle.

`model.safetensors` holds encoder, decoder and latent statistics, the averaged weights of training; `vocabulary/` the
words and embeddings.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import safetensors.torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from torch import Tensor

from spae.config import SPAEConfig, from_dict, to_dict
from spae.data.publishing import publish
from spae.vocabulary import Vocabulary

FORMAT_VERSION = 1
_SHIPPED = Path(__file__).with_name("pretrained")
_LARGEST_CONFIG = 1_000_000  # bytes of config.json


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder holds."""

    config: SPAEConfig
    vocabulary: Vocabulary
    weights: Mapping[str, Tensor]

    def save(self, url: str) -> None:
        """Write the folder to an fsspec URL, `config.json` last."""
        folder = url.rstrip("/")
        record = {
            "format_version": FORMAT_VERSION,
            "model": to_dict(self.config),
            "words_fingerprint": self.vocabulary.words_fingerprint,
        }
        self.vocabulary.save(f"{folder}/vocabulary")
        publish(f"{folder}/model.safetensors", safetensors.torch.save(dict(self.weights)))
        publish(f"{folder}/config.json", json.dumps(record, indent=2).encode())

    @classmethod
    def load(cls, folder_or_hub_id: str, embeddings: str | None = None) -> "ModelFolder":
        """Read a folder, by path, fsspec URL, name of a shipped model or Hugging Face hub id.

        ValueError names what is missing or does not fit. `embeddings` as in `Vocabulary.load`.
        """
        folder = _resolve(folder_or_hub_id)
        record = _read_record(folder)
        vocabulary = Vocabulary.load(f"{folder}/vocabulary", embeddings)
        if vocabulary.words_fingerprint != record["words_fingerprint"]:
            raise ValueError(
                f"{folder}/vocabulary is not the one that the model was trained with; export the model anew"
            )
        with fsspec.open(f"{folder}/model.safetensors", "rb") as file:
            content = file.read()
        try:
            weights = safetensors.torch.load(content)
        except SafetensorError as error:
            raise ValueError(f"{folder}/model.safetensors cannot be read: {error}; export the model anew") from error
        return cls(from_dict(SPAEConfig, record["model"]), vocabulary, weights)


def _read_record(folder: str) -> dict[str, Any]:
    try:
        with fsspec.open(f"{folder}/config.json", "rb") as file:
            record = json.loads(file.read(_LARGEST_CONFIG))
    except FileNotFoundError as error:
        raise ValueError(f"{folder} holds no config.json; give a folder that `python -m jobs.export` wrote") from error
    if record.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"{folder} has format {record.get('format_version')}; this version reads {FORMAT_VERSION}")
    return record


def shipped_models() -> tuple[str, ...]:
    """Names of the models that are installed with this package."""
    return tuple(sorted(config.parent.name for config in _SHIPPED.glob("*/config.json")))


def _resolve(name: str) -> str:
    filesystem, path = fsspec.url_to_fs(name)
    shipped = shipped_models()
    # what the user made himself goes before what is shipped, if it is a model: pictures lie in a folder digits too
    if filesystem.exists(f"{path}/config.json" if name in shipped else path):
        return name.rstrip("/")
    if name in shipped:
        return str(_SHIPPED / name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.parquet"])
    raise ValueError(
        f"{name} is neither a folder nor a hub id such as name/model; models that come with spae: {', '.join(shipped)}"
    )
