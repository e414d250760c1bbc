"""The part files that keep words' features until all words have some, and the progress that can be read from them.

Every batch is published as soon as it is encoded, in a folder named by the CLIP and the prompts: a run that was killed
continues with the words that have no part yet, another CLIP or other prompts start anew, and another choice of words
uses what is there.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import fsspec
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from pipelines.features.encoder import ClipSource, WordFeatures
from spae.data.publishing import join, list_files, publish
from spae.vocabulary.record import SemanticsRecord

_READ_AT_ONCE = 256  # files; stores answer them together, 25 MB of 32 words each at width 768

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureParts:
    """The part files of one CLIP and one set of prompts in a vocabulary's folder."""

    url: str

    @classmethod
    def of(cls, output: str, record: SemanticsRecord) -> "FeatureParts":
        """The parts below a vocabulary's folder that this CLIP and these prompts make."""
        content = [record.architecture_sha256, record.weights_sha256, record.activation, record.templates]
        return cls(join(output, "parts", hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]))

    def publish(self, part: WordFeatures) -> None:
        """Write one part; the same words have the same name, so that a retry replaces its own file."""
        words = json.dumps(part.words)
        name = hashlib.sha256((words + json.dumps(part.errors)).encode()).hexdigest()[:16]
        metadata = {"words": words, "errors": json.dumps(part.errors)}
        data = safetensors.numpy.save({"features": part.features}, metadata)
        publish(join(self.url, f"{name}-{len(part.words) + len(part.errors)}.safetensors"), data)

    def read(self) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
        """Features and errors by word of all finished parts; a damaged part counts as none."""
        features: dict[str, NDArray[np.float32]] = {}
        errors: dict[str, str] = {}
        names = self._names()
        for start in range(0, len(names), _READ_AT_ONCE):
            for name, data in self._contents(names[start : start + _READ_AT_ONCE]):
                try:
                    part = _unpack(data)
                except (SafetensorError, ValueError, KeyError) as error:
                    logger.warning("%s is damaged and made anew: %s", join(self.url, name), error)
                    continue
                features.update(zip(part.words, part.features, strict=True))
                errors |= part.errors
        return features, errors

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


@dataclass(frozen=True)
class Encoding:
    """By which CLIP words are encoded, and where their features are kept until all have some."""

    clip: ClipSource
    parts: FeatureParts


def _unpack(data: bytes) -> WordFeatures:
    features = safetensors.numpy.load(data)["features"]
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    words, errors = tuple(json.loads(header["words"])), json.loads(header["errors"])
    if features.shape[:1] != (len(words),) or not bool(np.isfinite(features).all()):
        raise ValueError(f"{features.shape} finite features for {len(words)} words expected")
    return WordFeatures(words, features, errors)
