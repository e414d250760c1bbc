"""What the pipelines share of Beam: their flags, and the transform that writes shards."""

import dataclasses
import difflib
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from pipelines.shard_plan import PlannedShard
from pipelines.shard_writer import ShardWriter

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


def flag_hint(flag: str, flags: type) -> str:
    """The end of an error about an unknown flag: the nearest one that exists, ours (a dataclass) or Beam's."""
    ours = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(flags)]
    near = difflib.get_close_matches(flag.split("=", 1)[0], [*ours, *_beam_flags()], n=1)
    return f"; did you mean {near[0]}?" if near else "; see --help"


def beam_options(flags: Sequence[str]) -> PipelineOptions:
    """Beam's options from its flags, with the local runner as the default."""
    options = PipelineOptions(list(flags))
    standard = options.view_as(StandardOptions)
    standard.runner = standard.runner or LOCAL_RUNNER
    return options


def is_dataflow(options: PipelineOptions) -> bool:
    """Whether the work will run on Dataflow's machines."""
    return options.view_as(StandardOptions).runner.endswith("DataflowRunner")


def _beam_flags() -> frozenset[str]:
    names: set[str] = set()
    PipelineOptions([]).get_all_options(add_extra_args_fn=lambda parser: names.update(parser._option_string_actions))
    return frozenset(names - {"-h", "--help"})


class WriteShards(beam.PTransform):
    """Planned shards (as JSON) in, one (shard, samples, errors) a finished shard out."""

    def __init__(self, writer: ShardWriter) -> None:
        super().__init__()
        self.writer = writer

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """One element is one shard: no image passes between workers."""
        return shards | "Write" >> beam.ParDo(_WriteShard(self.writer))


class _WriteShard(beam.DoFn):
    def __init__(self, writer: ShardWriter) -> None:
        self.writer = writer

    def process(self, element: str) -> Iterator[tuple[str, int, int]]:
        outcome = self.writer.write(PlannedShard.from_json(element))
        Metrics.counter("shards", "samples").inc(outcome.samples)
        for reason, count in outcome.reasons.items():
            Metrics.counter("errors", reason).inc(count)
        yield outcome.shard, outcome.samples, len(outcome.errors)


def write_shards(writer: ShardWriter, shards: Sequence[PlannedShard], options: PipelineOptions) -> None:
    """Write shards on the runner that the options name, and wait for the end."""
    with beam.Pipeline(options=options) as pipeline:
        _ = pipeline | "Plan" >> beam.Create([shard.to_json() for shard in shards]) | "Shards" >> WriteShards(writer)
