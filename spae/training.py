"""The training objective, one step of it, and the state that a run leaves and takes up again.

A step is the same on every world size up to rounding: statistics, losses and gradients are those of the global batch.
Gradients are averaged by one flat all-reduce in a fixed order, so that a resumed run repeats an uninterrupted one bit
for bit. Nothing in a step waits for the device; numbers leave it at log steps.
"""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spae.config import ObjectiveConfig, OptimizerConfig, TrainConfig
from spae.data import Batch
from spae.losses import commitment_loss, dynamic_weight, pixel_loss, semantic_loss
from spae.model import SPAE, unit_pixels
from spae.order import DataPosition, StreamOrder
from spae.pools import pool_sizes, sample_targets, similarity
from spae.quantizers import Quantized

_WEIGHT_HISTORY = 101  # steps over which the dynamic weight's median runs
Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Guidance:
    """What judges words while training: CLIP's view of pictures and of the vocabulary's words."""

    image_features: Callable[[Tensor], Tensor]
    """Pixels float (B, 3, H, W) in [0, 1] -> unit-norm features (B, E), without gradient."""
    semantics: Tensor
    """Features of the words (K, E), equation 5."""


class Objective:
    """Equation 9: the appearance loss and the semantic loss, weighed against each other.

    Adversarial and perceptual terms belong in `appearance`. Owns no parameters; `weights` is the history of the dynamic
    weight, part of the training state.
    """

    def __init__(self, config: ObjectiveConfig, guidance: Guidance | None) -> None:
        if config.semantic_weight and guidance is None:
            raise ValueError("semantic_weight > 0 needs CLIP and a vocabulary with semantics; or set semantic_weight=0")
        self.config = config
        self.guidance = guidance if config.semantic_weight else None

    @property
    def guided_layers(self) -> int:
        """Layers that the semantic loss guides."""
        return len(self.config.semantic_thresholds) if self.guidance else 0

    def appearance(self, reconstruction: Tensor, pixels: Tensor, commitment: Tensor) -> Terms:
        """The terms of equation 8 and their weighted sum `appearance`."""
        pixel = pixel_loss(reconstruction, pixels)
        weighted = pixel + self.config.commitment_weight * commitment
        return {"pixel": pixel, "commitment": commitment, "appearance": weighted}

    def commitment(self, model: SPAE, z: Tensor, quantized: Quantized) -> Tensor:
        """Commitment in the configured reduction (facts 8.7)."""
        where = [model.quantizer.layer_positions(layer) for layer in range(model.depth)]
        total = commitment_loss(z, quantized.layer_estimates, where)
        if self.config.commitment_reduction == "element":
            return total / z.shape[1]
        return total / model.codebook.radius_squared

    def semantic(self, model: SPAE, batch: Batch, quantized: Quantized) -> Terms:
        """The semantic loss, with each guided layer's mean pool size and how often its word lies in the pool."""
        assert self.guidance is not None
        pixels = unit_pixels(batch.pixels)
        scores = similarity(self.guidance.image_features(pixels), self.guidance.semantics)
        thresholds = self.config.semantic_thresholds
        sizes = model.config.layer_sizes[: self.guided_layers]
        draws = batch.draws.split(list(sizes), 1)
        targets = [sample_targets(scores, rho, drawn) for rho, drawn in zip(thresholds, draws, strict=True)]
        loss = semantic_loss(model.codebook, quantized.layer_inputs[: self.guided_layers], targets)
        terms: Terms = {"semantic": loss}
        pools = pool_sizes(scores, thresholds).float().mean(0)
        for layer, threshold in enumerate(thresholds):
            chosen = quantized.tokens.layers[layer].flatten(1)
            terms[f"pool_size/{layer + 1}"] = pools[layer]
            terms[f"pool_hit/{layer + 1}"] = (scores.gather(1, chosen) >= threshold).float().mean()
        return terms


@dataclass
class TrainState:
    """All that a run needs to go on: a checkpoint is `state_dict()`, resuming is `load_state_dict()`."""

    model: SPAE
    average: SPAE
    """Moving average of the model, which evaluation and export use."""
    optimizer: torch.optim.Adam
    weights: Tensor
    """The last dynamic weights, NaN where there is none yet."""
    step: int = 0
    seen: int = 0
    """Samples seen, over all ranks."""

    @classmethod
    def create(cls, config: TrainConfig, model: SPAE) -> "TrainState":
        """The state before the first step; the model's weights are those it has."""
        optimizer = torch.optim.Adam(
            model.parameters(), lr=config.optimizer.learning_rate, betas=config.optimizer.betas, foreach=True
        )
        weights = torch.full((_WEIGHT_HISTORY,), torch.nan, device=model.device)
        shared = {id(frozen): frozen for frozen in (model.vocabulary, model.codebook)}  # the table stays one
        average = copy.deepcopy(model, shared).eval().requires_grad_(False)
        return cls(model, average, optimizer, weights)

    def state_dict(self, position: DataPosition) -> dict[str, object]:
        """Tensors and plain values only: readable with `torch.load(weights_only=True)`."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "weights": self.weights,
            "step": self.step,
            "position": dataclasses.asdict(position),
        }

    def load_state_dict(self, state: dict[str, object], order: StreamOrder) -> None:
        """Take up a run where `state_dict` left it, on any number of ranks."""
        values: dict = state
        self.model.load_state_dict(values["model"])
        self.average.load_state_dict(values["average"])
        self.optimizer.load_state_dict(values["optimizer"])
        self.weights.copy_(values["weights"])
        self.step = int(values["step"])
        position = values["position"]
        self.seen = order.seen(DataPosition(int(position["epoch"]), tuple(position["counts"])))


def train_step(state: TrainState, objective: Objective, batch: Batch, config: TrainConfig) -> tuple[Terms, Quantized]:
    """One optimisation step on this rank's part of the batch; the terms stay on the device, averaged over ranks."""
    model = state.model.train()
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(state.step, config.steps, config.optimizer)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        reconstruction, z, quantized = model(batch.pixels, layers=_prefix(state.step, config))
    commitment = objective.commitment(model, z, quantized)
    terms = objective.appearance(reconstruction, unit_pixels(batch.pixels), commitment)
    if objective.guidance:
        terms |= objective.semantic(model, batch, quantized)
    averaged = _average_terms(terms)
    loss = terms["appearance"]
    if objective.guidance:
        averaged["dynamic_weight"] = _capped_weight(state, averaged, objective.config, len(model.codebook))
        loss = loss + objective.config.semantic_weight * averaged["dynamic_weight"] * terms["semantic"]
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    _average_gradients(model)
    if config.optimizer.gradient_clip:
        averaged["gradient_norm"] = nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.gradient_clip)
    state.optimizer.step()
    update_average(state.average, model, ema_decay(state.step, config.optimizer))
    state.step += 1
    state.seen += config.data.batch_size
    return averaged | _latent_radii(model, z), quantized


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Linear warm-up, reciprocal square root, linear cool-down to zero (facts 8.19)."""
    warmup = max(config.warmup_steps, 1)
    rate = config.learning_rate * min(1.0, (step + 1) / warmup) * (warmup / max(step + 1, warmup)) ** 0.5
    remaining = (steps - step) / max(config.cooldown_steps, 1)
    return rate * max(0.0, min(1.0, remaining))


def ema_decay(step: int, config: OptimizerConfig) -> float:
    """The average's decay, smaller in the first steps so that it forgets the initial weights."""
    return min(config.ema_decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average's weights and latent statistics towards the model's."""
    mean, now = list(average.state_dict().values()), list(model.state_dict().values())
    torch._foreach_lerp_(mean, now, 1 - decay)


def _prefix(step: int, config: TrainConfig) -> int | None:
    """Layers the decoder sees in a step: all, or with prefix_probability a random number; equal on every rank."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    if float(torch.rand((), generator=generator)) >= config.objective.prefix_probability:
        return None
    return int(torch.randint(1, len(config.model.grids) + 1, (), generator=generator))


def _capped_weight(state: TrainState, terms: Terms, config: ObjectiveConfig, words: int) -> Tensor:
    """The dynamic weight, at most `dynamic_weight_cap` times its running median (facts 8.9); 1 where it is off."""
    if not config.dynamic_weight:
        return torch.ones((), device=state.weights.device)
    weight = dynamic_weight(terms["appearance"], terms["semantic"], words)
    median = torch.nan_to_num(state.weights.nanmedian(), nan=torch.inf)
    weight = torch.minimum(weight, config.dynamic_weight_cap * median)
    state.weights[state.step % _WEIGHT_HISTORY] = weight
    return weight


def _latent_radii(model: SPAE, z: Tensor) -> Terms:
    """Root mean square of |z| over that of the table, at each layer's positions; healthy between 0.5 and 2."""
    centre = model.codebook.embeddings.mean(0).reshape(-1, *[1] * (z.ndim - 2))
    squared = (z.detach() - centre).square().sum(1).flatten(1) / model.codebook.radius_squared
    where = (model.quantizer.layer_positions(layer) for layer in range(model.depth))
    return {f"latent_radius/{number}": squared[:, one].mean().sqrt() for number, one in enumerate(where, 1)}


def _average_terms(terms: Terms) -> Terms:
    """Means over ranks in one all-reduce, without gradient."""
    values = torch.stack([value.detach().float() for value in terms.values()])
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
        values = values / torch.distributed.get_world_size()
    return dict(zip(terms, values.unbind(), strict=True))


def _average_gradients(model: nn.Module) -> None:
    """One flat all-reduce in the order of the parameters: bit-equal after a resume, unlike DDP's changing buckets."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
