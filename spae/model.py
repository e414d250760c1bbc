"""SPAE: encode images or clips into pyramids of words, decode any number of layers, load and save.

A model folder stands alone: `config.json`, `model.safetensors` (encoder, decoder, latent statistics; the averaged
weights of training) and `vocabulary/` (words and embeddings). Nothing in it is a pickle.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import fsspec
import numpy as np
import safetensors.torch
import torch
from huggingface_hub import snapshot_download
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from spae.codebook.frozen import default_temperature
from spae.codebook.variants import TrainableCodebook, make_codebook
from spae.config import SPAEConfig, from_dict, to_dict
from spae.data.media import fit_image, to_rgb
from spae.data.publishing import publish
from spae.networks.autoencoder import Decoder, Encoder, LatentNormalisation, memory_layout
from spae.pyramid import TokenPyramid, check_layers
from spae.quantizers import QUANTIZERS, Quantized
from spae.vocabulary import Vocabulary

FORMAT_VERSION = 1
ImageInput = Tensor | Image.Image | Sequence[Image.Image]


class SPAE(nn.Module):
    """Semantic Pyramid AutoEncoder (section 3.1).

    Args:
        config: input size, grids, networks, quantizer.
        vocabulary: the words; its width must be config.embedding_width.
    """

    def __init__(self, config: SPAEConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        if config.table == "frozen" and vocabulary.width != config.embedding_width:
            raise ValueError(
                f"the vocabulary's embeddings are {vocabulary.width} wide and config.embedding_width is "
                f"{config.embedding_width}; use dataclasses.replace(config, embedding_width={vocabulary.width})"
            )
        if config.table == "projected" and vocabulary.record.embeddings == "reference":
            raise ValueError(
                "config.table=projected makes a table of rows that may not be republished, and no file could stand for "
                "it; use a vocabulary with stored embeddings, or another table"
            )
        vocabulary = vocabulary.first(config.table_size) if config.table_size else vocabulary
        self.config, self.vocabulary = config, vocabulary
        temperature = config.temperature or default_temperature(len(vocabulary))
        self.codebook = make_codebook(config, vocabulary.embeddings, temperature)
        self.quantizer = QUANTIZERS[config.quantizer](self.codebook, config.grids)
        self.encoder = Encoder(config)
        self.statistics = LatentNormalisation(config.latent_statistics, self.codebook.embeddings, config.latent_grid)
        self.decoder = Decoder(config)
        self.layout = memory_layout(config)
        for network in (self.encoder, self.decoder):
            network.to(memory_format=self.layout)

    @property
    def depth(self) -> int:
        """Number of layers D."""
        return len(self.config.grids)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.codebook.embeddings.device

    @property
    def device_name(self) -> str:
        """What it computes on: cpu, or the name of the GPU."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def compile_networks(self) -> None:
        """Have torch compile encoder and decoder at their first use; the weights and their names stay as they are."""
        self.encoder.compile()
        self.decoder.compile()

    def latents(self, pixels: Tensor) -> Tensor:
        """z = f_e(I), fp32 (B, C, *latent grid), of pixels (B, 3, *S), uint8 or float in [0, 1]."""
        scaled = (unit_pixels(pixels) * 2 - 1).contiguous(memory_format=self.layout)
        return self.statistics(self.encoder(scaled))

    def reconstruct(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, *S), about [0, 1] and not clipped, of the decoder's input (B, C, *latent grid)."""
        return (self.decoder(latents).float() + 1) / 2

    def forward(self, pixels: Tensor, layers: int | None = None) -> tuple[Tensor, Tensor, Quantized]:
        """One training pass: reconstruction from the first layers, latents z, and what quantizing gave."""
        z = self.latents(pixels)
        quantized = self.quantizer(z, layers)
        return self.reconstruct(quantized.latents), z, quantized

    @torch.no_grad()
    def encode(self, pictures: ImageInput) -> TokenPyramid:
        """Words of pictures.

        Args:
            pictures: uint8 or float [0, 1] tensor (B, 3, H, W) or (B, 3, T, H, W) of the model's input size, or a PIL
                image or a list of them, which are cropped and resized to it.
        """
        pixels = self._pixels(pictures)
        expected = (3, *self.config.input_size)
        if tuple(pixels.shape[1:]) != expected:
            shape = ", ".join(map(str, expected))
            raise ValueError(
                f"pixels of shape {tuple(pixels.shape)} must be (B, {shape}); PIL images are resized for you"
            )
        return self.quantizer(self.latents(pixels.to(self.device))).tokens

    @torch.no_grad()
    def decode(self, pyramid: TokenPyramid, layers: int | None = None) -> Tensor:
        """Pixels (B, 3, *S) float in [0, 1] rebuilt from the first `layers` layers, or from all there are."""
        kept = pyramid.prefix(check_layers(layers, pyramid.depth)).to(self.device)
        words = len(self.codebook)
        for number, layer in enumerate(kept.layers, 1):
            if layer.numel() and not 0 <= int(layer.min()) <= int(layer.max()) < words:
                raise ValueError(
                    f"layer {number} holds ids {int(layer.min())}..{int(layer.max())}, outside 0 to {words - 1}"
                )
        return self.reconstruct(self.quantizer.embed(kept)).clamp(0, 1)

    def _pixels(self, pictures: ImageInput) -> Tensor:
        if isinstance(pictures, Tensor):
            return pictures
        images = [pictures] if isinstance(pictures, Image.Image) else list(pictures)
        sides = self.config.input_size[-2:]
        arrays = [fit_image(to_rgb(image), (sides[0], sides[1])) for image in images]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)

    @property
    def fingerprint(self) -> str:
        """sha256 over configuration, weights and words: equal where tokens and pictures are."""
        digest = hashlib.sha256(json.dumps(to_dict(self.config), sort_keys=True).encode())
        digest.update(self.vocabulary.words_fingerprint.encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def refresh(self) -> None:
        """Bring the searched table up to date where training moves it; call it after the parameters changed."""
        if isinstance(self.codebook, TrainableCodebook):
            self.codebook.refresh()
            self.statistics.follow(self.codebook.embeddings)

    def frozen(self) -> "SPAE":
        """This model with its table as the vocabulary's embeddings, so that all that follows treats it like any other.

        A learned row is given the word of its number: the map that a learned codebook needs before a language model can
        read its ids. A model whose table is frozen already is returned as it is.
        """
        if not isinstance(self.codebook, TrainableCodebook):
            return self
        self.refresh()
        table = self.codebook.embeddings.detach().cpu().clone()
        vocabulary = self.vocabulary.with_table(table, "learned" if self.config.table == "learned" else "projected")
        config = dataclasses.replace(
            self.config, table="frozen", table_size=None, temperature=self.codebook.temperature
        )
        model = SPAE(config, vocabulary).to(self.device)
        own = model.state_dict()
        model.load_state_dict({name: tensor for name, tensor in self.state_dict().items() if name in own})
        return model.train(self.training)

    def save_pretrained(self, url: str) -> None:
        """Write a model folder to an fsspec URL, `config.json` last; a trained table is written as a frozen one."""
        if isinstance(self.codebook, TrainableCodebook):
            self.frozen().save_pretrained(url)
            return
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        record = {
            "format_version": FORMAT_VERSION,
            "model": to_dict(self.config),
            "words_fingerprint": self.vocabulary.words_fingerprint,
        }
        folder = url.rstrip("/")
        self.vocabulary.without_semantics().save(f"{folder}/vocabulary")
        publish(f"{folder}/model.safetensors", safetensors.torch.save(weights))
        publish(f"{folder}/config.json", json.dumps(record, indent=2).encode())

    @classmethod
    def from_pretrained(
        cls, folder_or_hub_id: str, device: torch.device | str = "cpu", embeddings: str | None = None
    ) -> "SPAE":
        """Load a model folder, by path, fsspec URL or Hugging Face hub id, in evaluation mode.

        ValueError names what is missing or does not fit. Where the folder only refers to the words' embeddings,
        `embeddings` says where they are (`Vocabulary.load`).
        """
        folder = _resolve(folder_or_hub_id)
        record = _read_record(folder)
        vocabulary = Vocabulary.load(f"{folder}/vocabulary", embeddings)
        if vocabulary.words_fingerprint != record["words_fingerprint"]:
            raise ValueError(
                f"{folder}/vocabulary is not the one that the model was trained with; export the model anew"
            )
        model = cls(from_dict(SPAEConfig, record["model"]), vocabulary)
        with fsspec.open(f"{folder}/model.safetensors", "rb") as file:
            content = file.read()
        try:
            model.load_state_dict(safetensors.torch.load(content))
        except SafetensorError as error:
            raise ValueError(f"{folder}/model.safetensors cannot be read: {error}; export the model anew") from error
        except RuntimeError as error:
            raise ValueError(f"{folder}/model.safetensors does not fit its config.json: {error}") from error
        return model.eval().to(device)


def unit_pixels(pixels: Tensor) -> Tensor:
    """Pixels as float in [0, 1]: uint8 divided by 255, float as it is; ValueError for other types."""
    if pixels.dtype == torch.uint8:
        return pixels.float() / 255
    if not pixels.is_floating_point():
        raise ValueError(f"pixels are {pixels.dtype}; use uint8 in [0, 255] or float in [0, 1]")
    return pixels


def _read_record(folder: str) -> dict[str, Any]:
    try:
        with fsspec.open(f"{folder}/config.json", "rb") as file:
            record = json.loads(file.read(1_000_000))
    except FileNotFoundError as error:
        raise ValueError(f"{folder} holds no config.json; give a folder that `python -m jobs.export` wrote") from error
    if record.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"{folder} has format {record.get('format_version')}; this version reads {FORMAT_VERSION}")
    return record


def _resolve(folder_or_hub_id: str) -> str:
    filesystem, path = fsspec.url_to_fs(folder_or_hub_id)
    if filesystem.exists(path):
        return folder_or_hub_id.rstrip("/")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", folder_or_hub_id):
        return snapshot_download(folder_or_hub_id, allow_patterns=["*.json", "*.safetensors", "*.parquet"])
    raise ValueError(f"{folder_or_hub_id} is neither a folder nor a hub id such as name/model")
