"""SPAE: encode images or clips into pyramids of words, decode any number of layers, load and save."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spae.codebook.frozen import default_temperature
from spae.codebook.variants import TrainableCodebook, make_codebook
from spae.config import SPAEConfig, to_dict
from spae.data.pixels import PictureInput, stack_pictures
from spae.model_folder import ModelFolder
from spae.networks.autoencoder import Decoder, Encoder, memory_layout
from spae.networks.inflation import Inflation, inflate_weights
from spae.networks.latent_statistics import LatentNormalisation
from spae.pyramid import TokenPyramid, check_layers
from spae.quantizers import Quantized, make_quantizer
from spae.vocabulary import Vocabulary


@dataclass(frozen=True)
class TrainingPass:
    """What one pass of training gives.

    Attributes:
        reconstruction: pixels (B, 3, *S), about [0, 1] and not clipped.
        latents: z, fp32 (B, C, *latent grid).
        quantized: what quantizing them gave.
        finite: bool (B,), whether the encoder's output for a sample was finite before statistics mixed the batch.
    """

    reconstruction: Tensor
    latents: Tensor
    quantized: Quantized
    finite: Tensor


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
        vocabulary = vocabulary if config.table_size is None else vocabulary.first(config.table_size)
        self.config, self.vocabulary = config, vocabulary
        temperature = default_temperature(len(vocabulary)) if config.temperature is None else config.temperature
        self.codebook = make_codebook(config, vocabulary.embeddings, temperature)
        if not float(self.codebook.radius_squared) > 0:
            raise ValueError(f"{len(vocabulary)} words of one embedding tell nothing apart; give two different ones")
        self.quantizer = make_quantizer(config.quantizer, self.codebook, config.grids)
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
        """z = f_e(I), fp32 (B, C, *latent grid), of pixels (B, 3, *S), uint8 or float in [0, 1].

        By the batch's statistics in training mode, by the stored ones in evaluation mode.
        """
        return self.statistics(self._encoder_output(pixels))

    def reconstruct(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, *S), about [0, 1] and not clipped, of the decoder's input (B, C, *latent grid)."""
        return (self.decoder(latents).float() + 1) / 2

    def forward(self, pixels: Tensor, layers: int | None = None, whole: int | None = None) -> TrainingPass:
        """One training pass, the reconstruction from the first layers; for `whole` see LatentNormalisation."""
        raw = self._encoder_output(pixels)
        z = self.statistics(raw, whole)
        quantized = self.quantizer(z, layers)
        return TrainingPass(
            self.reconstruct(quantized.latents), z, quantized, raw.detach().flatten(1).isfinite().all(1)
        )

    @torch.no_grad()
    def encode(self, pictures: PictureInput, layers: int | None = None) -> TokenPyramid:
        """Words of pictures; in any mode by the stored statistics, so that they depend on the picture alone.

        Args:
            pictures: uint8 or float [0, 1] tensor (B, 3, H, W) or (B, 3, T, H, W) of the model's input size, or a PIL
                image or a list of them, which are cropped and resized to it; clips also as a list of tensors (3, T, H,
                W) or of lists of T PIL images.
            layers: search the first layers alone, 1 to depth; the words are those that a search of all would give.
        """
        pixels = stack_pictures(pictures, self.config.input_size)
        latents = self.statistics.stored(self._encoder_output(pixels.to(self.device)))
        return self.quantizer(latents, searched=layers).tokens

    @torch.no_grad()
    def decode(self, pyramid: TokenPyramid, layers: int | None = None) -> Tensor:
        """Pixels (B, 3, *S) float in [0, 1] rebuilt from the first `layers` layers, or from all there are."""
        self._check_precision()
        kept = pyramid.prefix(check_layers(layers, pyramid.depth)).to(self.device)
        words = len(self.codebook)
        for number, layer in enumerate(kept.layers, 1):
            if layer.numel() and not 0 <= int(layer.min()) <= int(layer.max()) < words:
                raise ValueError(
                    f"layer {number} holds ids {int(layer.min())}..{int(layer.max())}, outside 0 to {words - 1}"
                )
        return self.reconstruct(self.quantizer.embed(kept)).clamp(0, 1)

    def _encoder_output(self, pixels: Tensor) -> Tensor:
        self._check_precision()
        return self.encoder((unit_pixels(pixels) * 2 - 1).contiguous(memory_format=self.layout))

    def _check_precision(self) -> None:
        """ValueError where `.half()`, `.bfloat16()` or `.double()` has rounded the words: no search would be right."""
        if self.codebook.embeddings.dtype != torch.float32:
            raise ValueError(
                f"the model was converted to {self.codebook.embeddings.dtype}, its words too; load it again and use "
                "torch.autocast for faster networks"
            )

    def inflate(self, config: SPAEConfig, kernels: Inflation = "central") -> "SPAE":
        """The video model of a configuration, of the same words, that begins with what this image model knows.

        With central kernels a still clip has the picture's latents at every frame, and latents that are the same at
        every frame become the picture they stand for; `averaged` spreads each kernel over the frames, see
        `spae/networks/inflation.py`. ValueError where the two differ in more than the frames.
        """
        if len(self.config.input_size) != 2 or config.input_size[1:] != self.config.input_size:
            raise ValueError(
                f"a model of inputs {config.input_size} cannot begin from one of {self.config.input_size}; inflate an "
                "image model of the video model's height and width"
            )
        model = SPAE(config, self.vocabulary)
        model.load_state_dict(inflate_weights(self.state_dict(), model.state_dict(), kernels))
        return model.to(self.device).train(self.training)

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
        ModelFolder(self.config, self.vocabulary.without_semantics(), weights).save(url)

    @classmethod
    def from_pretrained(
        cls, folder_or_hub_id: str, device: torch.device | str = "cpu", embeddings: str | None = None
    ) -> "SPAE":
        """Load a model folder, by path, fsspec URL, name of a shipped model or Hugging Face hub id, in evaluation mode.

        A folder goes before a shipped model of the same name where it holds a model. ValueError names what is missing
        or does not fit. Where the folder only refers to the words' embeddings, `embeddings` says where they are
        (`Vocabulary.load`).
        """
        folder = ModelFolder.load(folder_or_hub_id, embeddings)
        model = cls(folder.config, folder.vocabulary)
        try:
            model.load_state_dict(folder.weights)
        except RuntimeError as error:
            raise ValueError(f"{folder_or_hub_id}: model.safetensors does not fit config.json: {error}") from error
        return model.eval().to(device)


def unit_pixels(pixels: Tensor) -> Tensor:
    """Pixels as float32 in [0, 1]: uint8 divided by 255, floats as they are; ValueError for other types."""
    if pixels.dtype == torch.uint8:
        return pixels.float() / 255
    if not pixels.is_floating_point():
        raise ValueError(f"pixels are {pixels.dtype}; use uint8 in [0, 255] or float in [0, 1]")
    return pixels.float()
