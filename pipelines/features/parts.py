"""The part files that keep vectors of words until all words have one, and the progress that can be read from them.

The vectors are CLIP's features, or a language model's embeddings from an endpoint. Every batch is published as soon as
it is there, in a folder named by what makes the vectors: a run that was killed continues with the words that have no
part yet, another CLIP or other prompts start anew, and another choice of words uses what is there.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import fsspec
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from spae.data.publishing import join, list_files, publish
from spae.vocabulary.record import SemanticsRecord

_TENSOR = "features"  # the name in the files, of whatever kind the vectors are
_READ_AT_ONCE = 256  # files; stores answer them together, 25 MB of 32 words each at width 768

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WordVectors:
    """Vectors float32 (n, width) of n words, and the reason for every word that has none."""

    words: tuple[str, ...]
    vectors: NDArray[np.float32]
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class VectorParts:
    """The part files of one maker of vectors (a CLIP with its prompts, an endpoint) in a vocabulary's folder."""

    url: str

    @classmethod
    def of(cls, output: str, record: SemanticsRecord) -> "VectorParts":
        """The parts below a vocabulary's folder that this CLIP and these prompts make."""
        content = [record.architecture_sha256, record.weights_sha256, record.activation, record.templates]
        return cls(join(output, "parts", hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]))

    def publish(self, part: WordVectors) -> None:
        """Write one part; the same words have the same name, so that a retry replaces its own file."""
        words = json.dumps(part.words)
        name = hashlib.sha256((words + json.dumps(part.errors)).encode()).hexdigest()[:16]
        metadata = {"words": words, "errors": json.dumps(part.errors)}
        data = safetensors.numpy.save({_TENSOR: part.vectors}, metadata)
        publish(join(self.url, f"{name}-{len(part.words) + len(part.errors)}.safetensors"), data)

    def read(self) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
        """Vectors and errors by word of all finished parts; a damaged part counts as none."""
        vectors: dict[str, NDArray[np.float32]] = {}
        errors: dict[str, str] = {}
        names = self._names()
        for start in range(0, len(names), _READ_AT_ONCE):
            for name, data in self._contents(names[start : start + _READ_AT_ONCE]):
                try:
                    part = _unpack(data)
                except (SafetensorError, ValueError, KeyError) as error:
                    logger.warning("%s is damaged and made anew: %s", join(self.url, name), error)
                    continue
                vectors.update(zip(part.words, part.vectors, strict=True))
                errors |= part.errors
        return vectors, errors

    def count(self) -> int:
        """Words in finished parts, by the names of the files."""
        return sum(int(name.removesuffix(".safetensors").rsplit("-", 1)[-1]) for name in self._names())

    def clear(self) -> None:
        """Remove the parts, all at once, and the folder above where it is empty then."""
        filesystem, path = fsspec.url_to_fs(self.url)
        with contextlib.suppress(FileNotFoundError):
            filesystem.rm(path, recursive=True)
        with contextlib.suppress(OSError, NotImplementedError):  # stores have no folders
            filesystem.rmdir(path.rsplit("/", 1)[0])

    def _contents(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        filesystem, path = fsspec.url_to_fs(self.url)
        contents = filesystem.cat_ranges([f"{path}/{name}" for name in names], None, None, on_error="raise")
        yield from zip(names, contents, strict=True)

    def _names(self) -> list[str]:
        return [name for name in list_files(self.url) if name.endswith(".safetensors")]


def _unpack(data: bytes) -> WordVectors:
    vectors = safetensors.numpy.load(data)[_TENSOR]
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    words, errors = tuple(json.loads(header["words"])), json.loads(header["errors"])
    if vectors.shape[:1] != (len(words),) or not bool(np.isfinite(vectors).all()):
        raise ValueError(f"{vectors.shape} finite vectors for {len(words)} words expected")
    return WordVectors(words, vectors, errors)
