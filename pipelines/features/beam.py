"""CLIP's text features of words, computed by Beam's workers or by one process, and published batch by batch.

One element is one word; its prompts are made where it is encoded, and no feature passes a shuffle.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import PBegin
from apache_beam.transforms.resources import parse_resource_hints

from pipelines.failures import ending_with_workers
from pipelines.features.encoder import ClipSource, Encoding, WordEncoder
from pipelines.features.parts import VectorParts, WordVectors
from spae.progress import watched


@dataclass(frozen=True, kw_only=True)
class Workers:
    """What Beam's workers get.

    Attributes:
        words_per_batch: words that are encoded and published at a time, each with every prompt.
        ram: least memory of a machine, as 16GB; None leaves it to the runner.
        accelerator: as type:nvidia-l4;count:1;install-nvidia-driver; None for none.
        share_model: one CLIP a machine, which serves all its worker processes, instead of one a process.
    """

    words_per_batch: int
    ram: str | None = None
    accelerator: str | None = None
    share_model: bool = False

    def __post_init__(self) -> None:
        parse_resource_hints(self.hints())  # ValueError where the memory cannot be understood

    def hints(self) -> dict[str, str]:
        """Beam's resource hints."""
        hints = {"min_ram": self.ram, "accelerator": self.accelerator}
        return {name: value for name, value in hints.items() if value}


class WordFeaturesHandler(ModelHandler[str, WordVectors, WordEncoder]):
    """Loads CLIP and encodes batches of words; one output a batch."""

    def __init__(self, clip: ClipSource, workers: Workers) -> None:
        batch = workers.words_per_batch
        super().__init__(min_batch_size=batch, max_batch_size=batch, large_model=workers.share_model)
        self.clip = clip

    def load_model(self) -> WordEncoder:
        """CLIP as the driver described it."""
        return self.clip.load()

    def run_inference(
        self, batch: Sequence[str], model: WordEncoder, inference_args: dict[str, Any] | None = None
    ) -> Iterable[WordVectors]:
        """Encode a batch of words; a shared `model` lives in another process, and only its methods can be called."""
        yield model.encode(list(batch))


class EncodeWords(beam.PTransform):
    """The beginning of a pipeline: one published part a batch of words, as the number of words in it."""

    def __init__(self, words: Sequence[str], encoding: Encoding, workers: Workers) -> None:
        super().__init__()
        self.words = words
        self.encoding = encoding
        self.workers = workers
        # for all of it: steps with other hints are not fused, and features would pass from machine to machine
        self.with_resource_hints(**workers.hints())

    def expand(self, begin: PBegin) -> beam.PCollection:
        """A shuffle spreads the words, and the worker that encodes a batch publishes it."""
        words = begin | "Words" >> beam.Create(self.words, reshuffle=True)
        encode = RunInference(WordFeaturesHandler(self.encoding.clip, self.workers))
        return words | "Encode" >> encode | "Publish" >> beam.ParDo(_Publish(self.encoding.parts))


class _Publish(beam.DoFn):
    def __init__(self, parts: VectorParts) -> None:
        self.parts = parts

    def process(self, element: WordVectors) -> Iterator[int]:
        self.parts.publish(element)
        yield len(element.words)


def compute_features(words: Sequence[str], encoding: Encoding, workers: Workers, options: PipelineOptions) -> None:
    """Encode words on the runner that the options name, showing progress, and wait for the end."""
    with _progress(encoding.parts, len(words)), ending_with_workers(), beam.Pipeline(options=options) as pipeline:
        _ = pipeline | "Features" >> EncodeWords(words, encoding, workers)


def compute_features_here(words: Sequence[str], encoding: Encoding, words_per_batch: int) -> None:
    """Encode words in this process, without Beam, showing progress; the parts are those of any other run."""
    encoder = encoding.clip.load()
    with _progress(encoding.parts, len(words)):
        for start in range(0, len(words), words_per_batch):
            encoding.parts.publish(encoder.encode(words[start : start + words_per_batch]))


def _progress(parts: VectorParts, words: int) -> AbstractContextManager[None]:
    before = parts.count()
    return watched(lambda: parts.count() - before, words, "word")
