"""The transform that writes shards, and the pipeline around it."""

import logging
import random
import time
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.failures import one_line
from pipelines.shards.writer import ShardOutcome, ShardWriter

PAUSES = (1.0, 2.0, 4.0)
"""About so many seconds before a shard is tried again."""

logger = logging.getLogger(__name__)


class WriteShards(beam.PTransform):
    """Ranges (begin, end) of shard numbers in, one (shard, samples, errors) a finished shard out."""

    def __init__(self, writer: ShardWriter) -> None:
        super().__init__()
        self.writer = writer

    def expand(self, ranges: beam.PCollection) -> beam.PCollection:
        """One element is one shard: no image passes between workers."""
        return (
            ranges
            | "Number" >> beam.FlatMapTuple(_numbers)
            | "Spread" >> beam.Reshuffle()  # else Dataflow fuses all steps, and one worker writes all shards
            | "Write" >> beam.ParDo(_WriteShard(self.writer))
        )


class _WriteShard(beam.DoFn):
    def __init__(self, writer: ShardWriter) -> None:
        self.writer = writer

    def process(self, number: int) -> Iterator[tuple[str, int, int]]:
        begin = time.monotonic()
        outcome = _write_patiently(self.writer, number)
        Metrics.counter("shards", "samples").inc(outcome.samples)
        Metrics.counter("shards", "bytes").inc(outcome.bytes)
        Metrics.distribution("shards", "milliseconds").update(round(1000 * (time.monotonic() - begin)))
        for reason, count in outcome.reasons.items():
            Metrics.counter("errors", reason).inc(count)
        yield outcome.shard, outcome.samples, len(outcome.errors)


def _write_patiently(writer: ShardWriter, number: int) -> ShardOutcome:
    """What fails here is a store, by exceptions of many libraries: all are tried again, and the whole shard.

    Its bytes are the same each time. gcsfs itself tries each request six times before. What stays is the runner's.
    """
    for pause in PAUSES:
        try:
            return writer.write(number)
        except Exception as error:
            seconds = pause * random.uniform(0.5, 1.5)
            logger.warning("shard %d: %s; next try in %.1f s", number, one_line(error), seconds)
            time.sleep(seconds)
    return writer.write(number)


def shards_pipeline(writer: ShardWriter, numbers: Sequence[int], options: PipelineOptions) -> beam.Pipeline:
    """The pipeline that writes the shards of these numbers, in ascending order, on the runner that the options name."""
    pipeline = beam.Pipeline(options=options)
    _ = pipeline | "Plan" >> beam.Create(_ranges(numbers), reshuffle=False) | "Shards" >> WriteShards(writer)
    return pipeline


def _numbers(begin: int, end: int) -> Iterable[int]:
    return range(begin, end)


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Numbers as (begin, end): what is sent to a runner must stay small, Dataflow takes 10 MB at most."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number:
            ranges[-1] = (ranges[-1][0], number + 1)
        else:
            ranges.append((number, number + 1))
    return ranges
