"""CLIP's text features of words, computed by Beam and kept batch by batch.

One element is one word. Every batch is published as a part file as soon as it is encoded, under a folder named by the
CLIP and the prompts: a run that was killed continues with the words that have no part yet, another CLIP or other
prompts start anew, and another choice of words uses what is there.
"""

import contextlib
import hashlib
import json
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import fsspec
import safetensors.torch
import torch
import transformers
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from safetensors import SafetensorError
from torch import Tensor
from tqdm import tqdm

from spae.clip import (
    ClipGuide,
    check_templates,
    imagenet_templates,
    load_clip,
    prompt_features,
    require_same_clip,
)
from spae.publishing import delete, join, list_files, publish, read_bytes
from spae.vocabulary_record import SemanticsRecord

IMAGENET = "imagenet-80"
TERMINAL_INTERVAL, LOG_INTERVAL = 1.0, 10.0

logger = logging.getLogger(__name__)


def read_templates(name: str) -> tuple[str, ...]:
    """The 80 prompts of ImageNet, or the lines of a file."""
    if name == IMAGENET:
        return imagenet_templates()
    data = read_bytes(name)
    if data is None:
        raise ValueError(f"--templates {name} is neither {IMAGENET} nor a file")
    templates = tuple(line.strip() for line in data.decode().splitlines() if line.strip())
    check_templates(templates)
    return templates


@dataclass(frozen=True)
class ClipSource:
    """Where a worker finds CLIP, and by what it knows that it found the right one."""

    name: str
    weights: str | None
    record: SemanticsRecord
    threads: int | None = None
    """Threads of a worker process; None leaves torch's own choice."""

    def load(self) -> ClipGuide:
        """CLIP on the worker's accelerator if it has one; ValueError if it is another than the driver's."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        transformers.logging.set_verbosity_error()
        guide = load_clip(self.name, self.weights, "cuda" if torch.cuda.is_available() else "cpu")
        require_same_clip(guide, self.record)
        return guide


@dataclass(frozen=True)
class WordFeatures:
    """Features (n, E) of n words, and the reason for every word that has none."""

    words: tuple[str, ...]
    features: Tensor
    errors: dict[str, str] = field(default_factory=dict)


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
        data = safetensors.torch.save({"features": part.features}, metadata)
        publish(join(self.url, f"{name}-{len(part.words) + len(part.errors)}.safetensors"), data)

    def read(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Features and errors by word of all finished parts; a damaged part counts as none."""
        features: dict[str, Tensor] = {}
        errors: dict[str, str] = {}
        for name in self._names():
            try:
                part = _unpack(read_bytes(join(self.url, name)) or b"")
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
        """Remove the parts, and their folders where these are empty then."""
        for name in self._names():
            delete(join(self.url, name))
        filesystem, path = fsspec.url_to_fs(self.url)
        with contextlib.suppress(OSError, NotImplementedError):  # stores have no folders
            filesystem.rmdir(path)
            filesystem.rmdir(path.rsplit("/", 1)[0])

    def _names(self) -> list[str]:
        return [name for name in list_files(self.url) if name.endswith(".safetensors")]


@dataclass(frozen=True)
class Encoding:
    """By which CLIP words are encoded, and where their features are kept until all have some."""

    clip: ClipSource
    parts: FeatureParts


def _unpack(data: bytes) -> WordFeatures:
    features = safetensors.torch.load(data)["features"]
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    words, errors = tuple(json.loads(header["words"])), json.loads(header["errors"])
    if features.shape[:1] != (len(words),) or not bool(torch.isfinite(features).all()):
        raise ValueError(f"{tuple(features.shape)} finite features for {len(words)} words expected")
    return WordFeatures(words, features, errors)


def encode_words(guide: ClipGuide, words: Sequence[str], templates: Sequence[str]) -> WordFeatures:
    """Features of a batch; where it holds a word that CLIP cannot take, word by word, so that only that one is lost."""
    try:
        return WordFeatures(tuple(words), prompt_features(guide.model, guide.tokenizer, words, templates))
    except ValueError as error:
        if len(words) == 1:
            return WordFeatures((), torch.empty(0, 0), {words[0]: str(error)})
    single = [encode_words(guide, [word], templates) for word in words]
    good = [part for part in single if part.words]
    return WordFeatures(
        tuple(part.words[0] for part in good),
        torch.cat([part.features for part in good]) if good else torch.empty(0, 0),
        {word: reason for part in single for word, reason in part.errors.items()},
    )


class WordFeaturesHandler(ModelHandler[str, WordFeatures, ClipGuide]):
    """Loads CLIP once a process and encodes batches of words; one output a batch."""

    def __init__(self, clip: ClipSource, words_per_batch: int) -> None:
        super().__init__(min_batch_size=words_per_batch, max_batch_size=words_per_batch)
        self.clip = clip

    def load_model(self) -> ClipGuide:
        """CLIP as the driver described it."""
        return self.clip.load()

    def run_inference(
        self, batch: Sequence[str], model: ClipGuide, inference_args: dict[str, Any] | None = None
    ) -> Iterable[WordFeatures]:
        """Encode a batch of words."""
        yield encode_words(model, batch, self.clip.record.templates)


class EncodeWords(beam.PTransform):
    """Words in, one published part a batch out: how many words it holds."""

    def __init__(self, clip: ClipSource, parts: FeatureParts, words_per_batch: int) -> None:
        super().__init__()
        self.handler = WordFeaturesHandler(clip, words_per_batch)
        self.parts = parts

    def expand(self, words: beam.PCollection) -> beam.PCollection:
        """No feature passes a shuffle: the worker that encodes a batch publishes it."""
        return words | "Encode" >> RunInference(self.handler) | "Publish" >> beam.ParDo(_Publish(self.parts))


class _Publish(beam.DoFn):
    def __init__(self, parts: FeatureParts) -> None:
        self.parts = parts

    def process(self, element: WordFeatures) -> Iterator[int]:
        self.parts.publish(element)
        yield len(element.words)


def compute_features(
    words: Sequence[str], clip: ClipSource, parts: FeatureParts, words_per_batch: int, options: PipelineOptions
) -> None:
    """Encode words on the runner that the options name, showing progress, and wait for the end."""
    with _showing_progress(parts, len(words)), beam.Pipeline(options=options) as pipeline:
        _ = pipeline | "Words" >> beam.Create(words) | "Features" >> EncodeWords(clip, parts, words_per_batch)


@contextlib.contextmanager
def _showing_progress(parts: FeatureParts, total: int) -> Iterator[None]:
    """While the block runs, show words done, rate and ETA, read from the folder: the same on every runner."""
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(parts, total, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(parts: FeatureParts, total: int, stop: threading.Event) -> None:
    terminal, begin, before = sys.stderr.isatty(), time.monotonic(), parts.count()
    with tqdm(total=total, unit="word", disable=not terminal) as bar:
        ended = False
        while not ended:
            ended = stop.wait(TERMINAL_INTERVAL if terminal else LOG_INTERVAL)
            try:
                done = parts.count() - before
            except OSError as error:  # a store's hiccup must not end a run that works
                logger.warning("progress is unknown for now: %s", error)
                continue
            bar.update(done - bar.n)
            if not terminal and not ended:
                logger.info("%s", tqdm.format_meter(done, total, time.monotonic() - begin, ncols=0, unit="word"))
