"""In which precision scores, tables and losses are multiplied, whatever the caller's autocast region."""

import contextlib
from collections.abc import Iterator

import torch


def full_precision(device: torch.device) -> torch.autocast:
    """Scores and tables stay in their own precision inside an autocast region: bf16 scores flip 3 to 9% of the ids."""
    return torch.autocast(device.type, enabled=False)


@contextlib.contextmanager
def tensor_float_32() -> Iterator[None]:
    """Inside, CUDA multiplies float32 on tensor cores, with ten bits of each fraction; elsewhere nothing changes."""
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    settings.fp32_precision = "tf32"
    try:
        yield
    finally:
        settings.fp32_precision = before


@contextlib.contextmanager
def precision_of_losses(device: torch.device) -> Iterator[None]:
    """Inside, float32 is multiplied as float32, or as tf32 where the caller is in an autocast region of CUDA."""
    mixed = torch.is_autocast_enabled(device.type)
    with tensor_float_32() if mixed else contextlib.nullcontext(), full_precision(device):
        yield
