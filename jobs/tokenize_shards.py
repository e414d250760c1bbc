"""Turn images into Parquet tables of words with Ray.

    python -m jobs.tokenize_shards --model runs/demo/model --input runs/demo/shards/test --output runs/demo/tokens
    python -m jobs.tokenize_shards --model digits --input photos/ --output tokens/

A rerun skips what is done: tables by the same model from the same shards. Tasks that decode and actors that hold the
model scale apart; what passes between them is one shard.
"""

import dataclasses
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro

from jobs.cluster import connect
from jobs.paths import place, place_or_name
from jobs.resources import ResourcesError
from jobs.tokens.actors import ModelActors
from jobs.tokens.carried import carried_fields
from jobs.tokens.catalog import TableCatalog
from jobs.tokens.cost import batch_cost, decoder_memory, encoder_memory, log_cost
from jobs.tokens.folder_lock import BusyError, working_on
from jobs.tokens.job import TokenJob
from jobs.tokens.plan import (
    TokenPlan,
    footer_identity,
    make_plan,
    refuse_mixture,
    require_same_corpus,
    warn_of_mixture,
)
from jobs.tokens.precision import Precision, check_precision
from jobs.tokens.run import carry_out
from jobs.tokens.verification import log_deviations
from spae.data.choosing import check_range, chosen
from spae.data.sources import IMAGE_PATTERNS, VIDEO_PATTERNS, find_shards
from spae.data.token_table import (
    CROP_COLUMN,
    DEPTH_COLUMN,
    LLM_IDS_COLUMN,
    TEXT_COLUMN,
    VIEW_COLUMN,
    each_token_table,
    find_token_tables,
)
from spae.model import SPAE
from spae.pyramid import check_layers

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TokenizeFlags:
    """Which shards become words, by which model, and on what."""

    model: str
    """Model folder, by path, URL or hub id."""
    input: tuple[str, ...]
    """Splits of shards, their root or index.json; folders of images or of tars that others wrote; tars by patterns such
    as 'shards/{000..099}.tar'; lists of paths or URLs (.csv, .tsv, text)."""
    output: str
    """Folder for the tables; several splits may share it, several models may not."""
    workers: int = 1
    """Actors that hold the model, on a CPU with one thread each. Ids do not depend on their number."""
    batch: int = 64
    """Pictures of every pass of the model; recorded in the tables."""
    device: Literal["cpu", "cuda"] = "cpu"
    """cuda reserves one GPU an actor; this process itself needs none."""
    dtype: Precision = "float32"
    """Of the encoder's products: tf32 and bfloat16 are faster on GPUs, and a few words come out otherwise. How many is
    measured on the first shard, told and recorded."""
    allow_mixture: bool = False
    """Let tables of another --dtype, or of CPUs and GPUs, stand in one folder."""
    worker_cpus: float = 0.75
    """CPUs that Ray reserves for an actor; the rest of a machine is for decoding."""
    decoder_cpus: float = 0.25
    """CPUs that Ray reserves for a decoding task."""
    files: int = 1_000
    """Images of a folder or of a list that make a shard."""
    layers: int | None = None
    """First layers to search and to store; all by default."""
    words: int = 0
    """First layers whose words stand as text in a column of their own, `text`."""
    ids: Literal["table", "llm"] = "table"
    """llm adds a column `llm_ids`: the language model's own ids of all words that are stored."""
    carry: tuple[str, ...] = ()
    """Fields of the samples that get columns: txt, the text beside a picture; json:caption, a field of its json;
    json:exif.maker, one inside of an object."""
    error: float | None = None
    """Of each picture store the fewest first layers that rebuild it at this PSNR in dB or more (column `depth`)."""
    views: int = 1
    """Rows of each picture: itself, then crops and mirror images (columns `view` and `crop`)."""
    seed: int = 0
    """Of the crops."""
    clips: int | None = None
    """Rows of each video, frames for a model of pictures, which reads videos then: one lies in the middle, more are
    evenly spaced from the first frame to the last."""
    frame_stride: int = 1
    """How many frames further in the video each next frame of a clip lies."""
    shards: str | None = None
    """Take these shards only, by their place among all that --input names: 0..9 are the first ten."""
    limit: int | None = None
    """Take the first shards only; a later run without it keeps their tables."""
    max_error_share: float = 0.01
    """Share of undecodable samples above which the run counts as failed, after all is written."""
    replace: bool = False
    """Write anew the tables of these shards that come from another model, or from these shards before they were
    rebuilt; those of another corpus are spared."""
    verify: bool = False
    """Check all tables of the folder in the end, as `python -m jobs.verify_tokens` does; deviations are failures."""
    dry_run: bool = False
    """Print the plan and an estimate of its cost, of a batch on the cluster where one is named, and write nothing."""
    ray_address: str | None = None
    """Cluster to use, else that of RAY_ADDRESS, else one on this machine for this run alone."""
    wait_for_resources: float | None = None
    """Seconds to wait for room for all workers, then for less; by default half an hour if there is room for none."""

    def __post_init__(self) -> None:
        for name in ("workers", "batch", "files", "views", "clips", "frame_stride", "limit"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} {value} must be at least 1")
        check_range(self.shards)
        check_precision(self.dtype, self.device)
        carried_fields(self.carry)
        if self.error is not None and not (0 < self.error < math.inf and self.ids == "table"):
            raise ValueError(
                f"--error {self.error} must be above 0 dB, and goes without --ids llm: rows use some layers only"
            )
        if not self.input:
            raise ValueError("--input names nothing; give a split of shards, or a folder of images")
        if not 0 <= self.max_error_share <= 1:
            raise ValueError(f"--max-error-share {self.max_error_share} must be between 0 and 1")
        if min(self.worker_cpus, self.decoder_cpus) <= 0:
            raise ValueError(f"--worker-cpus {self.worker_cpus}, --decoder-cpus {self.decoder_cpus} must be above 0")

    @property
    def actors(self) -> ModelActors:
        """Of this run."""
        return ModelActors(
            workers=self.workers,
            cpus=self.worker_cpus,
            cpus_beside=self.decoder_cpus,
            device=self.device,
            wait_for_resources=self.wait_for_resources,
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Optional columns of the tables."""
        asked = {TEXT_COLUMN: self.words > 0, LLM_IDS_COLUMN: self.ids == "llm", DEPTH_COLUMN: self.error is not None}
        asked |= dict.fromkeys((VIEW_COLUMN, CROP_COLUMN), self.views > 1)
        carried = (field.column for field in carried_fields(self.carry))
        return (*(name for name, wanted in asked.items() if wanted), *carried)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where work failed, 2 for unusable arguments."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        flags = tyro.cli(TokenizeFlags, args=arguments, description=__doc__)
        model = SPAE.from_pretrained(flags.model)  # on a CPU: the GPUs may be elsewhere
        plan, job, tables = prepare(flags, model)
        if flags.dry_run:
            log_cost(plan, job, flags.workers, batch_cost(model, job, flags.actors, flags.ray_address))
            return 0
        actors, may_grow = connected_actors(flags, plan, model, job) if plan.todo else (flags.actors, False)
    except ResourcesError as error:
        logger.error("%s", error)
        return 1
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return 2
    try:
        with working_on(job.output, "jobs.tokenize_shards", alone=False):
            status = carry_out(plan, tables, job, model, actors, flags.max_error_share, may_grow=may_grow)
            if flags.verify:
                shards = (*plan.done, *plan.todo)
                status |= bool(log_deviations(job.output, find_token_tables(job.output), model, shards))
            return status
    except BusyError as error:
        logger.error("%s", error)
        return 1
    except Exception:  # whatever Ray or a store raises: what is finished stays, and the same command continues
        logger.exception("the run failed; give the same command again to continue it")
        return 1


def connected_actors(flags: TokenizeFlags, plan: TokenPlan, model: SPAE, job: TokenJob) -> tuple[ModelActors, bool]:
    """Actors for which the cluster has room, or may come to have: whether it may grow is the second value."""
    actors = dataclasses.replace(
        flags.actors,
        workers=min(flags.workers, len(plan.todo)),
        memory=encoder_memory(model, job),
        memory_beside=decoder_memory(plan, job),
    )
    may_grow = connect(flags.ray_address, num_cpus=actors.local_cpus)
    fitting = actors.fitting(may_grow)
    return (actors if may_grow else dataclasses.replace(actors, workers=fitting)), may_grow


def prepare(flags: TokenizeFlags, model: SPAE) -> tuple[TokenPlan, TokenJob, TableCatalog]:
    """What is to be done, what the workers need to know, and the tables so far; ValueError where it cannot be done."""
    output, layers = place("--output", flags.output), check_layers(flags.layers, model.depth)
    if not 0 <= flags.words <= layers:
        raise ValueError(f"--words {flags.words} must be between 0 and the {layers} layers that are stored")
    clips, patterns = video_rows(flags, model.config.input_size)
    identity = footer_identity(model, layers, flags.columns, flags.words)
    identity |= {"error_db": flags.error, "views": flags.views, "view_seed": flags.seed if flags.views > 1 else 0}
    identity |= {"clips": clips, "frame_stride": flags.frame_stride}
    found = find_shards([place("--input", url) for url in flags.input], flags.files, patterns)
    shards, tables = chosen(found, flags.shards, flags.limit), TableCatalog()
    for name, table in each_token_table(output):
        tables.put(name, table)
    plan = make_plan(shards, tables, identity, replace=flags.replace)
    if flags.replace:
        require_same_corpus(shards, tables, output)
    if not flags.allow_mixture:
        refuse_mixture(tables, plan, flags.device, flags.dtype)
    warn_of_mixture(tables, flags.device, flags.batch)
    logger.info(
        "%s: %d shards to tokenize with %s%d samples; %d are done",
        *(output, len(plan.todo), "at least " if plan.uncounted else "", plan.samples, len(plan.done)),
    )
    job = TokenJob(
        model=place_or_name("--model", flags.model),
        model_fingerprint=identity["model_fingerprint"],
        output=output,
        input_size=model.config.input_size,
        batch=flags.batch,
        device=flags.device,
        dtype=flags.dtype,
        layers=layers,
        text_layers=flags.words,
        llm_ids=flags.ids == "llm",
        carry=carried_fields(flags.carry),
        error_db=flags.error,
        views=flags.views,
        seed=flags.seed,
        clips=clips,
        frame_stride=flags.frame_stride,
        decoder_cpus=flags.decoder_cpus,
    )
    return plan, job, tables


def video_rows(flags: TokenizeFlags, input_size: tuple[int, ...]) -> tuple[int | None, str]:
    """Rows of each video, None where there is one row a sample anyway, and how input files are called.

    ValueError for flags that do not fit a model of pictures or of clips.
    """
    of_clips = len(input_size) == 3
    if flags.views > 1 and (of_clips or flags.clips is not None):
        raise ValueError(f"--views {flags.views} are of pictures, and here videos are read; give none")
    if flags.frame_stride > 1 and not of_clips:
        raise ValueError(
            f"--frame-stride {flags.frame_stride} is of a clip's frames, and {flags.model} takes pictures; give "
            "--clips, the number of frames of each video"
        )
    if of_clips:
        return (None if flags.clips == 1 else flags.clips), VIDEO_PATTERNS
    return flags.clips, IMAGE_PATTERNS if flags.clips is None else VIDEO_PATTERNS


if __name__ == "__main__":
    sys.exit(main())
