"""One step of training, and the state that a run leaves and takes up again.

A step is the same on every world size up to rounding: statistics, losses and gradients are those of the global batch.
Gradients are averaged by one flat all-reduce in a fixed order, so that a resumed run repeats an uninterrupted one bit
for bit. Numbers leave the device at log steps; only the search for words waits for it, to know whether one is left that
its screening did not settle. A step whose loss or gradient is not finite on any rank changes no weights on all.
"""

import copy
import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spae.collectives import Terms, average_gradients, average_terms
from spae.config import ObjectiveConfig, OptimizerConfig, TrainConfig
from spae.data.batch import Batch
from spae.data.order import DataPosition, StreamOrder
from spae.model import SPAE, unit_pixels
from spae.quantizers import Quantized
from spae.training.adversary import Adversary, guarded_step
from spae.training.losses import dynamic_weight
from spae.training.objective import Objective

_WEIGHT_HISTORY = 101  # steps over which the dynamic weight's median runs
_MIXED_JUDGES = ("cuda",)  # devices whose judges multiply in bfloat16 too; a CPU's stay exact, as in all measured runs


@dataclass
class TrainState:
    """All that a run needs to go on: a checkpoint is `state_dict()`, resuming is `load_state_dict()`."""

    model: SPAE
    average: SPAE
    """Moving average of the model, which evaluation and export use."""
    optimizer: torch.optim.Adam
    weights: Tensor
    """The last dynamic weights, NaN where there is none yet."""
    adversary: Adversary | None = None
    """None where objective.adversarial_weight is 0."""
    step: int = 0
    seen: int = 0
    """Samples seen, over all ranks."""

    @classmethod
    def create(cls, config: TrainConfig, model: SPAE) -> "TrainState":
        """The state before the first step; the model's weights are those it has."""
        optimizer = torch.optim.Adam(
            model.parameters(), lr=config.optimizer.learning_rate, betas=config.optimizer.betas, fused=True
        )
        weights = torch.full((_WEIGHT_HISTORY,), torch.nan, device=model.device)
        frozen = (model.vocabulary, model.codebook) if config.model.table == "frozen" else (model.vocabulary,)
        shared = {id(one): one for one in frozen}  # a frozen table stays one
        average = copy.deepcopy(model, shared).eval().requires_grad_(False)
        adversary = None
        if config.objective.adversarial_weight:
            opponent = config.objective.discriminator
            adversary = Adversary(opponent, config.model.input_size, config.optimizer.betas, model.device)
        return cls(model, average, optimizer, weights, adversary)

    def state_dict(self, position: DataPosition) -> dict[str, object]:
        """Tensors and plain values only: readable with `torch.load(weights_only=True)`."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "weights": self.weights,
            "adversary": self.adversary and self.adversary.state_dict(),
            "step": self.step,
            "position": dataclasses.asdict(position),
        }

    def load_state_dict(self, state: dict[str, object], order: StreamOrder) -> None:
        """Take up a run where `state_dict` left it, on any number of ranks."""
        values: dict = state
        self.model.load_state_dict(values["model"])
        self.model.refresh()
        self.average.load_state_dict(values["average"])
        self.optimizer.load_state_dict(values["optimizer"])
        self.weights.copy_(values["weights"])
        if self.adversary:
            self.adversary.load_state_dict(values["adversary"])
        self.step = int(values["step"])
        position = values["position"]
        self.seen = order.seen(DataPosition(int(position["epoch"]), tuple(position["counts"])))


@dataclass(frozen=True)
class StepResult:
    """What a step tells; tensors stay on the device."""

    terms: Terms
    """Scalars by name, averaged over ranks."""
    quantized: Quantized
    finite: Tensor
    """Whether this rank's own loss was finite, a bool scalar: where it is not, its samples are to blame."""


def train_step(state: TrainState, objective: Objective, batch: Batch, config: TrainConfig) -> StepResult:
    """One optimisation step of tokenizer and discriminator on this rank's part of the batch."""
    model, pixels = state.model.train(), unit_pixels(batch.pixels)
    rate = learning_rate(state.step, config.steps, config.optimizer)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    mixed, device = config.precision == "bfloat16", model.device.type
    with torch.autocast(device, torch.bfloat16, enabled=mixed):
        reconstruction, z, quantized = model(batch.pixels, layers=_prefix(state.step, config))
    z.retain_grad()
    commitment = objective.commitment(model, z, quantized)
    terms = objective.table(model, z, quantized)
    with torch.autocast(device, torch.bfloat16, enabled=mixed and device in _MIXED_JUDGES):
        terms |= objective.appearance(reconstruction, pixels, commitment, state.adversary)
        if objective.guidance:
            terms |= objective.semantic(model, batch, pixels, quantized)
    averaged = average_terms(terms)
    loss, semantic_gradient = terms["appearance"] + terms.get("table", 0), None
    if objective.guidance:
        averaged["dynamic_weight"] = _capped_weight(state, averaged, objective.config, len(model.codebook))
        weighted = objective.config.semantic_weight * averaged["dynamic_weight"] * terms["semantic"]
        (semantic_gradient,) = torch.autograd.grad(weighted, z, retain_graph=True)
        loss = loss + weighted
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(model.parameters())
    limit = config.optimizer.gradient_clip or torch.inf
    averaged["gradient_norm"] = nn.utils.clip_grad_norm_(model.parameters(), limit)
    skip = ~(averaged["gradient_norm"].isfinite() & averaged["appearance"].isfinite())
    guarded_step(state.optimizer, skip)
    model.refresh()
    update_average(state.average, model, ema_decay(state.step, config.optimizer))
    told = _latent_radii(model, z) | _gradient_norms(z, semantic_gradient) | _repeats(quantized)
    if state.adversary:
        with torch.autocast(device, torch.bfloat16, enabled=mixed and device in _MIXED_JUDGES):
            opposing, its_terms = state.adversary.losses(pixels, reconstruction, state.step)
        state.adversary.step(opposing, rate / config.optimizer.learning_rate, skip)
        told |= its_terms
    averaged |= average_terms(told) | {"skipped": skip.float()}
    state.step += 1
    state.seen += config.data.batch_size
    return StepResult(averaged, quantized, loss.detach().isfinite())


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
    state.weights[state.step % _WEIGHT_HISTORY] = weight.where(weight.isfinite(), torch.nan)
    return weight


def _latent_radii(model: SPAE, z: Tensor) -> Terms:
    """Root mean square of |z| over that of the table, at each layer's positions; healthy between 0.5 and 2."""
    centre = model.codebook.mean.reshape(-1, *[1] * (z.ndim - 2))
    squared = (z.detach() - centre).square().sum(1).flatten(1) / model.codebook.radius_squared
    where = (model.quantizer.layer_positions(layer) for layer in range(model.depth))
    return {f"latent_radius/{number}": squared[:, one].mean().sqrt() for number, one in enumerate(where, 1)}


def _repeats(quantized: Quantized) -> Terms:
    """Share of positions at which the last layer repeats the word of the one before, where their grids are equal."""
    tokens = quantized.tokens
    if tokens.depth < 2 or tokens.grids[-1] != tokens.grids[-2]:
        return {}
    return {"repeats": (tokens.layers[-1] == tokens.layers[-2]).float().mean()}


def _gradient_norms(z: Tensor, semantic: Tensor | None) -> Terms:
    """Norm of the gradient at the latents, (B, C, *S), by the part of the loss that it comes from (facts 8.9)."""
    total = z.grad if z.grad is not None else torch.zeros_like(z)
    if semantic is None:
        return {"latent_gradient/appearance": total.norm()}
    return {
        "latent_gradient/appearance": (total - semantic).norm(),
        "latent_gradient/semantic": semantic.norm(),
    }
