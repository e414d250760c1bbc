"""The flags of commands that run on Beam: ours, those of Beam's option classes, and the options they make."""

import dataclasses
import difflib
import sys
from collections.abc import Sequence
from typing import TypeVar

import tyro
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions, TestOptions

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
