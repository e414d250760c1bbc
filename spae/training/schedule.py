"""What a step's number decides: the learning rate, the layers that the decoder sees, the frames that are judged."""

import torch

from spae.config import OptimizerConfig, TrainConfig


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Linear warm-up, reciprocal square root beyond the time scale, linear cool-down to zero (facts 8.19)."""
    warmup, timescale = max(config.warmup_steps, 1), max(config.timescale_steps, 1)
    rate = config.learning_rate * min(1.0, (step + 1) / warmup) * (timescale / max(step + 1, timescale)) ** 0.5
    remaining = (steps - step) / max(config.cooldown_steps, 1)
    return rate * max(0.0, min(1.0, remaining))


def prefix_layers(step: int, config: TrainConfig) -> int | None:
    """Layers the decoder sees in a step: all, or with prefix_probability a random number; equal on every rank."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    if float(torch.rand((), generator=generator)) >= config.objective.prefix_probability:
        return None
    return int(torch.randint(1, len(config.model.grids) + 1, (), generator=generator))


def judged_frames(step: int, config: TrainConfig) -> list[int] | None:
    """Frames of clips that the perceptual network sees in a step, equal on every rank; None for pictures."""
    size = config.model.input_size
    if len(size) == 2:
        return None
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    return sorted(torch.randperm(size[0], generator=generator)[: config.objective.perceptual_frames].tolist())
