"""Configurations: frozen dataclasses of plain values, standard library only.

A variant is a value in a configuration, never another class; live objects (devices, vocabularies, process groups) never
enter one. Every run saves its resolved configuration beside its output.
"""

import dataclasses
import itertools
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Grid = tuple[int, ...]
LatentStatistics = Literal["position", "channel", "none"]
CommitmentReduction = Literal["radius", "element"]
Precision = Literal["float32", "bfloat16"]
CodebookTable = Literal["frozen", "learned", "projected"]
Search = Literal["euclidean", "cosine"]

IMAGE_GRIDS: tuple[Grid, ...] = ((1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (16, 16))
PAPER_THRESHOLDS = (0.98, 0.95, 0.9, 0.85, 0.8)

SMALLEST_BATCH = 3
"""Samples without which the statistics of a position leave nothing to train: they bring any two to plus and minus one
spread, whatever the encoder says, and one to the mean."""

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Shape of the convolutional encoder and its mirrored decoder (facts 2.2)."""

    base_channels: int = 128
    """Channels of the first scale."""
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 4)
    """One scale each, finest first; between two scales the sides halve."""
    residual_blocks: int = 2
    """Residual blocks a scale."""
    middle_blocks: int = 2
    """Residual blocks at the latent scale, after the last of the encoder and before the first of the decoder."""


@dataclass(frozen=True, kw_only=True)
class SPAEConfig:
    """A tokenizer: what goes in, the pyramid of grids, and the networks around it."""

    input_size: tuple[int, ...] = (128, 128)
    """(height, width) of an image or (frames, height, width) of a clip."""
    grids: tuple[Grid, ...] = IMAGE_GRIDS
    """Grid of each layer, coarse to fine; the last one is the latent grid."""
    embedding_width: int = 1536
    """Width of the word embeddings, which the encoder emits in full (facts 8.3); training takes the vocabulary's."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    quantizer: str = "pyramid"
    """pyramid (SAQ, the paper's), residual (RQ) or vector (one layer): a name of spae.quantizers.QUANTIZERS."""
    table: CodebookTable = "frozen"
    """frozen: the words' own rows. learned: rows of its own. projected: a learned linear map of the words' rows."""
    table_size: int | None = None
    """Words of the codebook, the first of the vocabulary; None means all."""
    search: Search = "euclidean"
    """cosine compares at unit length, as LQAE does; for a frozen table only."""
    latent_statistics: LatentStatistics = "position"
    """Which statistics bring the encoder's output to the spread of the word embeddings (facts 8.4)."""
    temperature: float | None = None
    """Sharpness of softmax(-|z - e|^2 / temperature); None means 1 / ln K (facts 8.2)."""

    def __post_init__(self) -> None:
        _check_choices(self)
        if len(self.input_size) not in (2, 3):
            raise ValueError(f"input_size={self.input_size} must be (height, width) or (frames, height, width)")
        if self.embedding_width < 1:
            raise ValueError(f"embedding_width={self.embedding_width} must be at least 1")
        if self.table_size is not None and self.table_size < 2:
            raise ValueError(f"table_size={self.table_size} must be at least 2 words, or None for all")
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature} must be above 0, or None for 1 / ln K")
        if not self.grids:
            raise ValueError("grids is empty; give one grid a layer, such as ((1, 1), (2, 2), (4, 4))")
        if self.search == "cosine" and self.table != "frozen":
            raise ValueError(f"search=cosine needs table=frozen, not {self.table}")
        if self.grids[-1] != self.latent_grid:
            raise ValueError(
                f"the last grid {self.grids[-1]} must be the latent grid {self.latent_grid}, which input_size="
                f"{self.input_size} and {len(self.network.channel_multipliers)} scales give"
            )
        check_grids(self.grids, self.latent_grid)

    @property
    def latent_grid(self) -> Grid:
        """Sides of the latent: spatial sides halve between scales, frames only between the first scales (facts 2.4)."""
        halvings = len(self.network.channel_multipliers) - 1
        factors = [2**halvings] * 2
        if len(self.input_size) == 3:
            factors.insert(0, 2 ** min(halvings, 2))
        if any(size % factor for size, factor in zip(self.input_size, factors, strict=True)):
            fitting = tuple(
                max(size // factor, 1) * factor for size, factor in zip(self.input_size, factors, strict=True)
            )
            raise ValueError(f"input_size={self.input_size} must be divisible by {tuple(factors)}, as {fitting} is")
        return tuple(size // factor for size, factor in zip(self.input_size, factors, strict=True))

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Words a layer."""
        return tuple(math.prod(grid) for grid in self.grids)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Shape of the discriminator and how it is trained (facts 2.3, 8.10)."""

    base_channels: int = 128
    """Channels of the first scale."""
    channel_multipliers: tuple[int, ...] = (2, 4, 4, 4, 4)
    """One block each, every one at half the sides of the last."""
    learning_rate: float = 1e-4
    """Peak of its schedule, which is that of the tokenizer."""
    gradient_penalty: float = 10.0
    """R1: this times the mean squared norm of the gradient at real pictures in [0, 1], without a further half."""
    gradient_penalty_every: int = 1
    """Steps between penalties; each is multiplied by their number (lazy R1)."""
    lecam_weight: float = 1e-4
    lecam_decay: float = 0.999
    """Of the running averages of the logits, to which LeCAM holds the others."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights of equations 7 to 9 and how their terms are reduced (facts 8.5 to 8.9)."""

    commitment_weight: float = 0.01
    commitment_reduction: CommitmentReduction = "radius"
    """radius: squared error over the table's mean squared radius. element: mean over channels."""
    codebook_weight: float = 0.0
    """Of the loss that draws a trainable table to the latents: commitment with roles exchanged; 1 for the baseline."""
    entropy_weight: float = 0.0
    """Of MaskGIT's entropy loss, for learned tables only: each latent sure, all words in use; 0.1 for the baseline."""
    adversarial_weight: float = 0.1
    """lambda of equation 8; 0 trains without a discriminator."""
    perceptual_weight: float = 0.1
    """eta of equation 8; 0 trains without the ResNet-50 that judges resemblance."""
    perceptual_frames: int = 4
    """Frames of each clip that the ResNet-50 sees, others every step."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    semantic_weight: float = 1.0
    """alpha of equation 9; 0 trains without semantic guidance."""
    semantic_thresholds: tuple[float, ...] = PAPER_THRESHOLDS
    """rho of equation 4, one for each guided layer, coarse to fine."""
    dynamic_weight: bool = True
    """Scale the semantic loss to the size of the appearance loss (equation 9)."""
    dynamic_weight_cap: float = 10.0
    """Highest dynamic weight, in multiples of its running median."""
    prefix_probability: float = 0.0
    """Share of steps whose decoder input is a random prefix of the layers."""

    def __post_init__(self) -> None:
        _check_choices(self)
        if any(not 0 <= rho <= 1 for rho in self.semantic_thresholds):
            raise ValueError(f"semantic_thresholds={self.semantic_thresholds} must lie in [0, 1]")
        if list(self.semantic_thresholds) != sorted(self.semantic_thresholds, reverse=True):
            raise ValueError(
                f"semantic_thresholds={self.semantic_thresholds} must not rise: deeper layers have larger pools"
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam, its schedule and the moving average of the weights (facts 2.1, 8.19)."""

    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.0, 0.99)
    warmup_steps: int = 5_000
    """Steps in which the rate rises to its peak."""
    timescale_steps: int = 5_000
    """Steps after which the rate falls with the reciprocal square root of the step."""
    cooldown_steps: int = 50_000
    """Last steps, in which the rate falls to zero."""
    gradient_clip: float | None = None
    """Largest norm of the gradient; None leaves it alone, as the paper does."""
    ema_decay: float = 0.999


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Batches and their order (see spae/data/loader.py)."""

    batch_size: int = 256
    """Samples of one step, over all ranks."""
    streams: int = 256
    """Virtual streams, see spae/data/order.py; fixed for the life of a run."""
    crop_scale: tuple[float, float] = (0.35, 1.0)
    """Share of the area that a random resized crop keeps; (1, 1) keeps the picture whole."""
    flip: bool = True
    """Mirror half of the pictures; wrong for digits and letters."""
    shift: int = 0
    """Largest random shift in pixels, borders repeated."""
    frame_stride: int = 1
    """Of videos: how many frames further each next frame of a clip lies."""
    clips_per_video: int = 1
    """Clips that an epoch cuts from each video at random places; they come one after the other, decoded together."""
    frame_rate: float | None = None
    """Frames a second that videos must have, within 1%: others count as undecodable. 0 takes any; None too, but
    jobs.train refuses a split whose first videos differ."""

    def __post_init__(self) -> None:
        for name in ("frame_stride", "clips_per_video"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name}={getattr(self, name)} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All that decides a training run, bit for bit, besides its data and its vocabulary."""

    model: SPAEConfig = field(default_factory=SPAEConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    precision: Precision = "float32"
    """Of the networks' products, on a GPU the judges' too; weights, latents, quantizer and losses stay in float32."""
    steps: int = 450_000
    seed: int = 0

    def __post_init__(self) -> None:
        _check_choices(self)
        if self.steps < 1:
            raise ValueError(f"steps={self.steps} must be at least 1")
        if self.model.latent_statistics == "position" and self.data.batch_size < SMALLEST_BATCH:
            raise ValueError(
                f"data.batch_size={self.data.batch_size} must be at least {SMALLEST_BATCH}: with fewer samples the "
                "statistics of a position leave nothing to train; or set model.latent_statistics=channel"
            )
        if len(self.model.input_size) == 2 and (self.data.clips_per_video, self.data.frame_stride) != (1, 1):
            raise ValueError(
                f"data.clips_per_video and data.frame_stride are of videos, and the model takes {self.model.input_size}"
            )
        guided, layers = len(self.objective.semantic_thresholds), len(self.model.grids)
        if guided > layers:
            raise ValueError(f"{guided} semantic_thresholds for {layers} layers; give at most one a layer")


def check_grids(grids: Sequence[Grid], latent_grid: Grid) -> None:
    """ValueError unless sides never shrink from layer to layer and every grid divides the latent grid."""
    for grid in grids:
        check_divides(grid, latent_grid)
    for coarse, fine in itertools.pairwise(grids):
        if any(a > b for a, b in zip(coarse, fine, strict=True)):
            raise ValueError(f"grid {coarse} is followed by the smaller {fine}; layers go coarse to fine")


def check_divides(grid: Grid, latent_grid: Grid) -> None:
    """ValueError unless every side of the latent grid is a multiple of the grid's."""
    if len(grid) != len(latent_grid) or any(n < 1 or h % n for n, h in zip(grid, latent_grid, strict=False)):
        raise ValueError(f"grid {grid} does not divide the latent grid {latent_grid}")


def to_dict(config: object) -> dict[str, Any]:
    """A configuration as plain JSON values; `from_dict` reads it back."""
    return dataclasses.asdict(typing.cast(Any, config))


def from_dict(config_class: type[ConfigT], values: dict[str, Any]) -> ConfigT:
    """Rebuild a configuration from JSON values, lists back to tuples; an unknown field is an error that names it."""
    hints = typing.get_type_hints(config_class)
    if unknown := sorted(set(values) - set(hints)):
        raise ValueError(f"{config_class.__name__} has no field {unknown}; it has {sorted(hints)}")
    return config_class(**{name: _revive(hints[name], value) for name, value in values.items()})


def _check_choices(config: object) -> None:
    """ValueError for a field whose value is none of those that its type lists: JSON and Python know no such types."""
    for name, hint in typing.get_type_hints(type(config)).items():
        choices, value = typing.get_args(hint), getattr(config, name)
        if typing.get_origin(hint) is Literal and value not in choices:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(choices)}")


def _revive(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_dict(typing.cast(type, hint), value)
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value
