"""What was counted of each shard, as a file: a killed evaluation goes on, and any number of workers adds up the same.

Files are merged in the order of the shards, so that the sums are the same to the last bit whoever counted which shard.
A file is whole or absent, and belongs to a run of the same identity: all that decides its sums, by hash.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
from torch import Tensor

from jobs.retries import persistently
from spae.data.publishing import join, list_files, publish, read_bytes
from spae.data.records import ShardInfo
from spae.evaluation.judging import SeenPictures
from spae.evaluation.metrics import Sums

FORMAT_VERSION = 2
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class PartFolder:
    """Files of one run.

    Attributes:
        url: of the folder.
        identity: hash of all that decides what the files hold.
    """

    url: str
    identity: str

    def finished(self) -> frozenset[str]:
        """Names of the files that stand."""
        return frozenset(list_files(self._folder))

    def name(self, shard: ShardInfo) -> str:
        """Of a shard's file, other for other bytes."""
        return f"{shard.name}-{shard.sha256[:16]}{_SUFFIX}"

    def write(self, shard: ShardInfo, metric: Sums, device: str) -> None:
        """Publish what was counted of a shard, on such a device."""
        data = _packed(metric.state(), {"shard": shard.name, "device": device})
        persistently("publishing statistics", lambda: publish(self._place(shard), data))

    def read(self, shard: ShardInfo, metric: Sums) -> str:
        """Take what was counted of a shard into an empty metric; the device that counted. ValueError without a file."""
        data = read_bytes(self._place(shard))
        if data is None:
            raise ValueError(f"{self._place(shard)} does not exist; give the same command again")
        try:
            metric.restore(safetensors.torch.load(data))
        except KeyError as error:
            raise ValueError(f"{self._place(shard)} lacks {error}, which --references held then; delete it") from error
        return str(_metadata(data)["device"])

    @property
    def _folder(self) -> str:
        return join(self.url, self.identity[:16])

    def _place(self, shard: ShardInfo) -> str:
        return join(self._folder, self.name(shard))


@dataclass(frozen=True)
class ReferenceFolder:
    """Judges' statistics of original pictures, each in a file named by the hash of what decides it."""

    url: str

    def read(self, name: str, identity: str, seen: SeenPictures) -> bool:
        """Take the statistics into an empty metric; False where they are not known."""
        data = read_bytes(self._place(name, identity))
        if data is not None:
            seen.restore(safetensors.torch.load(data))
        return data is not None

    def write(self, name: str, identity: str, seen: SeenPictures) -> None:
        """Keep statistics for later runs, of other models too."""
        publish(self._place(name, identity), _packed(seen.state(), {"judge": name}))

    def _place(self, name: str, identity: str) -> str:
        return join(self.url, f"{name}-{identity[:16]}{_SUFFIX}")


def identity_of(values: Mapping[str, Any]) -> str:
    """sha256 of JSON values."""
    return hashlib.sha256(json.dumps({**values, "format": FORMAT_VERSION}, sort_keys=True).encode()).hexdigest()


def _packed(state: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    apart = {name: tensor.clone().contiguous() for name, tensor in state.items()}  # tensors in a file share no memory
    return bytes(safetensors.torch.save(apart, metadata))


def _metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    return dict(json.loads(data[8 : 8 + length])["__metadata__"])
