"""One step of training.

A step is the same on every world size up to rounding: statistics, losses and gradients are those of the global batch,
to which a rank's means count by its share of the samples.
Gradients are averaged by one flat all-reduce in a fixed order, so that a resumed run repeats an uninterrupted one bit
for bit. Numbers leave the device at log steps; only the search for words waits for it, to know whether one is left that
its screening did not settle. A step whose loss or gradient is not finite on any rank changes no weights on all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spae.collectives import Terms, average_gradients, average_terms, rank_weight
from spae.config import TrainConfig
from spae.data.batch import Batch
from spae.model import TrainingPass, unit_pixels
from spae.quantizers import Quantized
from spae.training.adversary import guarded_step
from spae.training.average import ema_decay, update_average
from spae.training.objective import Objective
from spae.training.schedule import judged_frames, learning_rate, prefix_layers
from spae.training.state import TrainState
from spae.training.telemetry import gradient_norms, latent_radii, repeats

_MIXED_JUDGES = ("cuda",)  # devices whose judges multiply in bfloat16 too; a CPU's stay exact, as in all measured runs


@dataclass(frozen=True)
class StepResult:
    """What a step tells; tensors stay on the device."""

    terms: Terms
    """Scalars by name, averaged over the samples of all ranks."""
    quantized: Quantized
    loss_finite: Tensor
    """Whether this rank's own loss was finite, a bool scalar."""
    samples_finite: Tensor
    """Whether the latents of each of its samples were, before they mixed, bool (B,); see `telemetry.suspects`."""


def train_step(state: TrainState, objective: Objective, batch: Batch, config: TrainConfig) -> StepResult:
    """One optimisation step of tokenizer and discriminator on this rank's part of the batch."""
    model, pixels = state.model.train(), unit_pixels(batch.pixels)
    weight = rank_weight(len(pixels), batch.whole)
    rate = learning_rate(state.step, config.steps, config.optimizer)
    mixed, device = config.precision == "bfloat16", model.device.type
    judging = torch.autocast(device, torch.bfloat16, enabled=mixed and device in _MIXED_JUDGES)
    with torch.autocast(device, torch.bfloat16, enabled=mixed):
        forward: TrainingPass = model(batch.pixels, prefix_layers(state.step, config), batch.whole)
    z = forward.latents
    z.retain_grad()
    terms = objective.codebook_terms(model, forward, weight)
    with judging:
        judged = judged_frames(state.step, config)
        terms |= objective.appearance(model, forward, pixels, state.adversary, judged)
        if objective.guidance:
            terms |= objective.semantic(model, batch, pixels, forward.quantized)
    averaged = average_terms(terms, weight)
    loss, semantic_gradient = weight * (terms["appearance"] + terms.get("codebook_total", 0)), None
    if objective.guidance:
        averaged["dynamic_weight"] = state.capped_weight(averaged, objective.config)
        weighted = weight * objective.config.semantic_weight * averaged["dynamic_weight"] * terms["semantic"]
        (semantic_gradient,) = torch.autograd.grad(weighted, z, retain_graph=True)
        loss = loss + weighted
    averaged |= _update_tokenizer(state, loss, averaged["appearance"], rate, config)
    skip = averaged["skipped"].bool()
    telemetry = latent_radii(model, z) | gradient_norms(z, semantic_gradient) | repeats(forward.quantized)
    telemetry["culprits"] = (~forward.finite).float().sum()
    if state.adversary:
        with judging:
            adversary_loss, adversary_terms = state.adversary.losses(pixels, forward.reconstruction, state.step, weight)
        state.adversary.step(weight * adversary_loss, rate / config.optimizer.learning_rate, skip)
        telemetry |= adversary_terms
    averaged |= average_terms(telemetry, weight)
    state.step += 1
    state.seen += config.data.batch_size
    return StepResult(averaged, forward.quantized, loss.detach().isfinite(), forward.finite)


def _update_tokenizer(state: TrainState, loss: Tensor, appearance: Tensor, rate: float, config: TrainConfig) -> Terms:
    """One update of weights and average, none where loss or gradient is not finite; `appearance` is of all ranks."""
    model = state.model
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(model.parameters())
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.gradient_clip or torch.inf)
    skip = ~(norm.isfinite() & appearance.isfinite())
    guarded_step(state.optimizer, skip)
    model.refresh()
    update_average(state.average, model, ema_decay(state.step, config.optimizer))
    skipped = skip.float()
    state.skipped_in_a_row = (state.skipped_in_a_row.to(skipped.device) + 1) * skipped
    return {"gradient_norm": norm, "skipped": skipped, "skipped_in_a_row": state.skipped_in_a_row}
