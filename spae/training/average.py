"""The moving average of the weights, which evaluation and export use."""

import torch
from torch import nn

from spae.config import OptimizerConfig


def ema_decay(step: int, config: OptimizerConfig) -> float:
    """The average's decay, smaller in the first steps so that it forgets the initial weights."""
    return min(config.ema_decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average's weights and latent statistics towards the model's."""
    mean, now = list(average.state_dict().values()), list(model.state_dict().values())
    torch._foreach_lerp_(mean, now, 1 - decay)
