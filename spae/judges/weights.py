"""Weights of judges: read without ever running what lies in a file, and fitted to our own networks.

Safetensors are plain tensors, torch's files are unpickled with tensors only, and of a TorchScript archive only its
tensors are read (`torchscript.py`).
"""

import hashlib
import io
import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import fsspec
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from spae.judges.torchscript import is_torchscript, torchscript_tensors


@dataclass(frozen=True)
class Weights:
    """Tensors of a file by name, in its order, and the sha256 of its bytes."""

    tensors: Mapping[str, Tensor]
    sha256: str


def read_weights(place: str, sha256: str = "") -> Weights:
    """Read a file by path or URL.

    Args:
        place: .safetensors, torch's own, or a TorchScript archive.
        sha256: what its bytes must have, or the first letters of it.

    Raises:
        ValueError: other bytes, no weights, or a pickle of more than tensors.
        OSError: no such file.
    """
    with fsspec.open(place, "rb") as file:
        data = file.read()
    found = hashlib.sha256(data).hexdigest()
    if not found.startswith(sha256):
        raise ValueError(f"{place} has sha256 {found}, and {sha256} is wanted; fetch it anew")
    return Weights(_tensors(place, data), found)


def weights_sha256(network: nn.Module) -> str:
    """sha256 over names, shapes, types and values of a network's weights, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def fit_weights(network: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load weights by name, or, where layers are called otherwise, layer by layer in their order.

    ValueError where the layers' tensors are not those of the network by name and shape.
    """
    wanted, given = _layers(network.state_dict()), _layers(tensors)
    if wanted.keys() == given.keys():
        given = {prefix: given[prefix] for prefix in wanted}
    named: dict[str, Tensor] = {}
    for (prefix, layer), (other, found) in itertools.zip_longest(wanted.items(), given.items(), fillvalue=("", {})):
        shapes = [{name: tuple(tensor.shape) for name, tensor in one.items()} for one in (layer, found)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"these are not the weights of {what}: they have {other or 'nothing'} {shapes[1]} where it has "
                f"{prefix or 'nothing'} {shapes[0]}"
            )
        named |= {prefix + name: found[name] for name in layer}
    network.load_state_dict(named, strict=False)  # without the counters of batches


def _layers(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        prefix, dot, leaf = name.rpartition(".")
        if leaf != "num_batches_tracked":
            layers.setdefault(prefix + dot, {})[leaf] = tensor
    return layers


def _tensors(place: str, data: bytes) -> Mapping[str, Tensor]:
    try:
        if place.endswith(".safetensors"):
            return safetensors.torch.load(data)
        if is_torchscript(data):
            return torchscript_tensors(data)
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError) as error:
        raise ValueError(f"{place} cannot be read as weights: {error}") from error
    except Exception as error:  # a pickle of other things than tensors: torch raises UnpicklingError, and more
        raise ValueError(f"{place} holds more than tensors and is not loaded: {str(error)[:300]}") from error
