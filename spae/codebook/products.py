"""Matrix products of tables with rows, minus a bias, by the fastest library at hand.

On AMD processors NumPy's OpenBLAS multiplies float32 a quarter to a half faster than torch's MKL (measured 162 to 184
against 110 to 130 GFLOP/s on two cores of an EPYC); elsewhere torch multiplies. The choice depends on the processor
alone, never on a measurement, so that a resumed training repeats an uninterrupted one bit for bit.
"""

import contextlib
import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl
import torch
from torch import Tensor


def biased_product(left: Tensor, right: Tensor, bias: Tensor, out: Tensor) -> Tensor:
    """left (m, C) times right (n, C) transposed, minus bias (m,) in every column: written to `out` (m, n), contiguous.

    All of one type on one device. No gradient.
    """
    if not _by_numpy(left):
        with full_precision(left.device):
            return torch.addmm(bias[:, None], left, right.T, beta=-1, out=out)
    scores = out.numpy()
    with _as_many_threads_as_torch():
        np.matmul(left.numpy(), right.numpy().T, out=scores)
    np.subtract(scores, bias.numpy()[:, None], out=scores)
    return out


def transposed_product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """left (m, n) transposed times right (m, C): written to `out` (n, C). As `biased_product`."""
    if not _by_numpy(left):
        with full_precision(left.device):
            return torch.mm(left.T, right, out=out)
    with _as_many_threads_as_torch():
        np.matmul(left.numpy().T, right.numpy(), out=out.numpy())
    return out


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


def full_precision(device: torch.device) -> torch.autocast:
    """Scores and tables stay in their own precision inside an autocast region: bf16 scores flip 3 to 9% of the ids."""
    return torch.autocast(device.type, enabled=False)


def _by_numpy(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and _openblas_is_faster()


@functools.cache
def _openblas_is_faster() -> bool:
    information = Path("/proc/cpuinfo")
    return information.is_file() and "AuthenticAMD" in information.read_text()[:1_000]


def _as_many_threads_as_torch() -> AbstractContextManager[Any]:
    """Ray and Beam give a worker fewer threads than the machine has; OpenBLAS would take all."""
    return _controller().limit(limits=torch.get_num_threads(), user_api="blas")


@functools.cache
def _controller() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()
