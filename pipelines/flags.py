"""The flags of commands that run on Beam: ours, those of Beam's option classes, and the options they make."""

import dataclasses
import difflib
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_type_hints

import docstring_parser
import tyro
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions, TestOptions
from apache_beam.runners.runner import create_runner

from spae.data.publishing import is_local

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

    ValueError for a flag that neither knows, and for values that do not go together; tyro itself ends the process with
    status 2 where a value is not of its type.
    """
    ours, beams = split_flags(sys.argv[1:] if arguments is None else arguments)
    known = _our_flags(command)
    for argument in ours:  # before tyro, which would name a missing flag and not the misspelt one in its place
        name = argument.split("=", 1)[0].replace("_", "-")
        if name.startswith("--") and name not in known:
            raise ValueError(f"unknown argument {argument!r}{flag_hint(argument, command)}")
    parsed, unknown = tyro.cli(
        _parsed_type(command), args=ours, prog=f"python -m {module}", description=description, return_unknown_args=True
    )
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r}{flag_hint(unknown[0], command)}")
    return command(**{field.name: getattr(parsed, field.name) for field in dataclasses.fields(parsed)}), beams


def flag_hint(flag: str, flags: type) -> str:
    """The end of an error about an unknown flag: the nearest one that exists, ours (a dataclass) or Beam's."""
    near = difflib.get_close_matches(flag.split("=", 1)[0], [*_our_flags(flags), *_beam_flags()], n=1)
    return f"; did you mean {near[0]}?" if near else "; see --help"


def beam_options(flags: Sequence[str]) -> PipelineOptions:
    """Beam's options from its flags, with the local runner as the default; ValueError where it would not heed one."""
    options = PipelineOptions(list(flags))
    options.get_all_options()  # parses all flags: else a value that is none is found when the pipeline is built
    standard = options.view_as(StandardOptions)
    standard.runner = standard.runner or LOCAL_RUNNER
    create_runner(standard.runner)  # ValueError or ImportError for one that Beam does not know
    if options.view_as(TestOptions).dry_run and not is_dataflow(options):
        raise ValueError("--dry_run is Beam's, for Dataflow alone: other runners would write. Did you mean --dry-run?")
    return options


def is_dataflow(options: PipelineOptions) -> bool:
    """Whether the work will run on Dataflow's machines."""
    return options.view_as(StandardOptions).runner.endswith("DataflowRunner")


def check_places(options: PipelineOptions, places: Mapping[str, str]) -> None:
    """ValueError where one of the places, by flag, is local and the work is not; empty ones are none."""
    for flag, place in places.items():
        if place and is_local(place) and is_dataflow(options):
            raise ValueError(
                f"{flag} {place} is on this machine, which Dataflow's workers do not see; give a URL such as gs://BUCKET/..."
            )


def _parsed_type(command: type) -> type[Any]:
    """The same flags as tyro shall see them: each docstring one paragraph, else it breaks lines where the source does,
    and values unchecked, else it tells of a ValueError in a box of many lines."""
    texts: dict[str, str] = {}
    for cls in reversed(command.__mro__[:-1]):
        for parameter in docstring_parser.parse_from_object(cls).params:
            texts[parameter.arg_name] = " ".join((parameter.description or "").split())
    hints: dict[str, Any] = get_type_hints(command, include_extras=True)
    described = {
        field.name: Annotated[hints[field.name], tyro.conf.arg(help=texts[field.name])]
        for field in dataclasses.fields(command)
        if texts.get(field.name)
    }
    values: dict[str, Any] = {
        field.name: dataclasses.field(default_factory=field.default_factory)
        for field in dataclasses.fields(command)
        if field.default_factory is not dataclasses.MISSING
    }
    values |= {"__annotations__": described, "__module__": command.__module__, "__post_init__": lambda self: None}
    return dataclasses.dataclass(frozen=True, kw_only=True)(type(command.__name__, (command,), values))


def _our_flags(command: type) -> list[str]:
    names = [field.name.replace("_", "-") for field in dataclasses.fields(command)]
    return [*(f"--{name}" for name in names), *(f"--no-{name}" for name in names), "--help"]


def _beam_flags() -> frozenset[str]:
    names: set[str] = set()
    PipelineOptions([]).get_all_options(add_extra_args_fn=lambda parser: names.update(parser._option_string_actions))
    return frozenset(names - {"-h", "--help"})
