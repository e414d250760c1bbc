"""What the pipelines share of Beam: their flags, and the transform that writes shards."""

import dataclasses
import difflib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import apache_beam as beam
import tyro
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions, TestOptions
from apache_beam.utils import retry

from pipelines.shards.writer import ShardOutcome, ShardWriter

FlagsT = TypeVar("FlagsT")

LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""Where no --runner is given. Beam's own default would download a program and start it."""


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part a command line into our flags and Beam's, each with its values; Beam's are those its option classes name."""
    known = _beam_flags()
    ours: list[str] = []
    beams: list[str] = []
    current = ours
    for argument in arguments:
        if argument.startswith("-"):
            current = beams if argument.split("=", 1)[0] in known else ours
        current.append(argument)
    return ours, beams


def parse_command(
    command: type[FlagsT], module: str, description: str, arguments: Sequence[str] | None
) -> tuple[FlagsT, list[str]]:
    """The flags of a command (a dataclass) and those of Beam; of this process where no arguments are given.

    ValueError for a flag that neither knows; tyro itself ends the process with status 2 where a value cannot be.
    """
    ours, beams = split_flags(sys.argv[1:] if arguments is None else arguments)
    flags, unknown = tyro.cli(
        command, args=ours, prog=f"python -m {module}", description=description, return_unknown_args=True
    )
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r}{flag_hint(unknown[0], command)}")
    return flags, beams


def flag_hint(flag: str, flags: type) -> str:
    """The end of an error about an unknown flag: the nearest one that exists, ours (a dataclass) or Beam's."""
    ours = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(flags)]
    near = difflib.get_close_matches(flag.split("=", 1)[0], [*ours, *_beam_flags()], n=1)
    return f"; did you mean {near[0]}?" if near else "; see --help"


def beam_options(flags: Sequence[str]) -> PipelineOptions:
    """Beam's options from its flags, with the local runner as the default; ValueError where it would not heed one."""
    options = PipelineOptions(list(flags))
    options.get_all_options()  # parses all flags: else a value that is none is found when the pipeline is built
    standard = options.view_as(StandardOptions)
    standard.runner = standard.runner or LOCAL_RUNNER
    if options.view_as(TestOptions).dry_run and not is_dataflow(options):
        raise ValueError("--dry_run is Beam's, for Dataflow alone: other runners would write. Did you mean --dry-run?")
    return options


def is_dataflow(options: PipelineOptions) -> bool:
    """Whether the work will run on Dataflow's machines."""
    return options.view_as(StandardOptions).runner.endswith("DataflowRunner")


def _beam_flags() -> frozenset[str]:
    names: set[str] = set()
    PipelineOptions([]).get_all_options(add_extra_args_fn=lambda parser: names.update(parser._option_string_actions))
    return frozenset(names - {"-h", "--help"})


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
        outcome = _write(self.writer, number)
        Metrics.counter("shards", "samples").inc(outcome.samples)
        Metrics.counter("shards", "bytes").inc(outcome.bytes)
        Metrics.distribution("shards", "milliseconds").update(round(1000 * (time.monotonic() - begin)))
        for reason, count in outcome.reasons.items():
            Metrics.counter("errors", reason).inc(count)
        yield outcome.shard, outcome.samples, len(outcome.errors)


# Stores tell of their troubles by exceptions of many libraries, so all are tried again, and the whole shard: its bytes
# are the same each time. gcsfs itself tries each request six times before. What stays is the runner's to try again.
@retry.with_exponential_backoff(num_retries=3, initial_delay_secs=1, retry_filter=lambda error: True)
def _write(writer: ShardWriter, number: int) -> ShardOutcome:
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
