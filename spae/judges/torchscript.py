"""The tensors of a TorchScript archive, without its program: nothing of the archive's code is compiled or run.

Such an archive is a zip with a pickle of the module's attributes, whose classes are the archive's own, and a file of
bytes for each storage. Here those classes become bags of attributes, and any other name in the pickle is refused.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


def is_torchscript(data: bytes) -> bool:
    """Whether a file's bytes are such an archive: torch.save's zip holds no constants."""
    source = io.BytesIO(data)
    if not zipfile.is_zipfile(source):
        return False
    return any(name.endswith("/constants.pkl") for name in zipfile.ZipFile(source).namelist())


def torchscript_tensors(data: bytes) -> dict[str, Tensor]:
    """All tensors by their dotted names, in the order of the modules.

    pickle.UnpicklingError where the archive holds more than modules of tensors and plain values.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
        module = _Unpickler(archive, root).load()
    return dict(_named(module, ""))


class _Attributes:
    """An object of a class of the archive: what it holds, by name."""

    values: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.values = state


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Attributes
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return _tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":  # typed lists
            return _first
        raise pickle.UnpicklingError(f"{module}.{name} is no tensor")

    def persistent_load(self, saved: Any) -> Tensor:
        _, dtype, key, _, count = saved
        data = bytearray(self._archive.read(f"{self._root}data/{key}"))
        return torch.frombuffer(data, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset).clone()


def _first(value: Any, *_: Any) -> Any:
    return value


def _named(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(module, _Attributes):
        return
    for name, value in module.values.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        else:
            yield from _named(value, f"{prefix}{name}.")
