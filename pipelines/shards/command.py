"""What every command that writes shards does: flags, plan, the work itself, and an account of every input."""

import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Annotated

import tyro
from apache_beam.options.pipeline_options import PipelineOptions, TestOptions

from pipelines.failures import ending_with_workers, quiet_clients, status_before_work, status_of_work
from pipelines.flags import beam_options, check_places, parse_command
from pipelines.planning.plan import ShardSettings, SplitPlan, making_plan
from pipelines.planning.record import settings_for
from pipelines.samples.maker import SampleMaker
from pipelines.shards.attempts import inputs_under_way
from pipelines.shards.folder import (
    SplitState,
    finish_split,
    inspect_split,
    prepare_split,
    splits_with_other_classes,
)
from pipelines.shards.report import report_split, show_plan
from pipelines.shards.transform import shards_pipeline
from pipelines.shards.writer import ShardWriter
from spae.data.choosing import check_range, chosen
from spae.data.publishing import absolute, check_writable, is_local, join, list_files
from spae.data.sources import SourceSettings
from spae.progress import watched

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ShardFlags(ABC):
    """Flags of every command that writes shards."""

    output: str
    """Folder or URL that gets a folder for the split."""
    split: str
    """Name of the split; for digits train, val or test."""
    input: str = ""
    """Folder or URL of the inputs; digits need none."""
    annotations: str = ""
    """File or folder of what the inputs do not say themselves."""
    seed: int = 0
    """Decides the order of the samples over all shards."""
    samples_per_shard: int = 1000
    """Inputs of a shard; the last one holds a quarter to one and a quarter times as many."""
    limit: int | None = None
    """Take the first inputs of the shuffled order only; a later run without it continues from these shards."""
    shards: str | None = None
    """Write these shards of the plan only: 0..9 are the first ten. Several machines share a split so; the index comes
    with the last shard."""
    max_error_share: float = 0.01
    """Share of unusable inputs above which the run counts as failed, after all is written."""
    dry_run: bool = False
    """Print the plan and an estimate of its cost, and write nothing."""
    retry_errors: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[REASON ...]")] = None
    """Write finished shards with unusable inputs anew: all of them, or those with inputs of the given reasons."""
    replace: bool = False
    """Delete what stands in the split's folder from other settings or inputs."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_error_share <= 1:
            raise ValueError(f"--max-error-share {self.max_error_share} must be between 0 and 1")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"--limit {self.limit} must be at least 1")
        check_range(self.shards)
        if self.shards is not None and self.replace:
            raise ValueError("--replace deletes what others may be writing of the split; give it without --shards")
        folder = join(self.output, self.split)
        if self.input and _overlap(self.input, folder):
            raise ValueError(
                f"--input {self.input} and the split's folder {folder} overlap: shards would become inputs, and "
                "--replace delete inputs; give another --output"
            )

    @abstractmethod
    def source_settings(self) -> SourceSettings:
        """Where the inputs come from."""

    @abstractmethod
    def sample_maker(self) -> SampleMaker:
        """What becomes of each input."""

    def settings(self) -> ShardSettings:
        """The part of the flags that determines the bytes."""
        return ShardSettings(
            source=self.source_settings(),
            samples=self.sample_maker(),
            seed=self.seed,
            samples_per_shard=self.samples_per_shard,
        )


def _overlap(given: str, folder: str) -> bool:
    """Whether inputs (a file, a folder or a pattern) lie in a folder, or the folder lies among them."""
    inputs, split = (f"{_resolved(place)}/" for place in (given, folder))
    return inputs.startswith(split) or split.startswith(inputs) or fnmatch(f"{split}shard-000000.tar/", inputs)


def _resolved(place: str) -> str:
    """One name for one place: links are followed, and stores have one name."""
    if is_local(place):
        return os.path.realpath(absolute(place))
    protocol, separator, path = place.rstrip("/").partition("://")
    return f"{ {'gcs': 'gs', 's3a': 's3'}.get(protocol, protocol) }{separator}{path}"


def run_command(command: type[ShardFlags], module: str, description: str, arguments: Sequence[str] | None) -> int:
    """Run a command with these flags; 0 where all went well, 1 where work failed, 2 for unusable arguments."""
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(message)s")
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    quiet_clients()
    try:
        flags, beams = parse_command(command, module, description, arguments)
        options = beam_options(beams)
        check_places(options, {"--input": flags.input, "--output": flags.output, "--annotations": flags.annotations})
        settings, folder = flags.settings(), join(absolute(flags.output), flags.split)
        settings.source.open()
        if not flags.dry_run:
            check_writable(folder)
        settings = settings if flags.replace else settings_for(folder, settings)
        with making_plan(settings, flags.limit) as plan:
            state = inspect_split(plan, folder, flags.retry_errors, chosen(plan.shards, flags.shards))
            if flags.dry_run:
                return show_plan(plan, state, folder, flags.replace)
            prepare_split(plan, folder, state, flags.limit, flags.replace)
    except Exception as error:  # stores tell of their troubles by exceptions of many libraries
        return status_before_work(error)
    for other in splits_with_other_classes(folder, plan.classes):
        message = "%s has other classes: its labels and these disagree. Give both the same folders or --annotations"
        logger.warning(message, other)
    try:
        return _run(plan, state, folder, options, flags.max_error_share)
    except Exception as error:  # whatever a runner raises
        return status_of_work(error)


def _run(plan: SplitPlan, state: SplitState, folder: str, options: PipelineOptions, max_error_share: float) -> int:
    begin = time.monotonic()
    with watched(lambda: _inputs_done(state, folder), sum(shard.inputs for shard in state.todo), "input"):
        if state.todo:
            writer, numbers = ShardWriter(folder, plan.settings, plan.classes), [shard.number for shard in state.todo]
            with ending_with_workers():
                shards_pipeline(writer, numbers, options).run().wait_until_finish()
    if options.view_as(TestOptions).dry_run:
        logger.info("%s: the plan is there; Beam's --dry_run checked the job of %d shards", folder, len(state.todo))
        return 0
    planned, part = {shard.name: shard.plan for shard in plan.shards}, {shard.name for shard in state.part}
    result = finish_split(plan.settings.split, folder, planned, part)
    return report_split(state, result, folder, max_error_share, time.monotonic() - begin)


def _inputs_done(state: SplitState, folder: str) -> int:
    """Inputs of what is finished, as far as that shows (a shard that is retried has its old sidecar), and under way."""
    files = list_files(folder)
    under_way = inputs_under_way(folder, files)
    finished = {shard.name for shard in state.todo if f"{shard.name}.json" in files} - state.retried
    return sum(shard.inputs if shard.name in finished else under_way.get(shard.name, 0) for shard in state.todo)
