"""Train a tokenizer with Ray Train: a plain loop on every worker, exact resume from the run folder.

A run folder (any fsspec URL) holds `config.json` (all that decides the run), `history.jsonl` (what was logged) and
`step-XXXXXXXX/state.pt` checkpoints. Running the same command again continues; with other settings it is refused.
"""

import dataclasses
import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from jobs.cluster import connect
from jobs.paths import place
from jobs.resources import ResourcesError, choose_device, wait_for_room
from jobs.retries import persistently
from jobs.training.estimates import computing, reading
from jobs.training.image_model import ImageModel
from jobs.training.job import TrainJob
from jobs.training.judges import CLIP_STAND_IN, JudgeSource
from jobs.training.launch import TrainingError, train_on_cluster, worker_resources
from jobs.training.media import check_media
from jobs.training.run_folder import FINISHED_FILE, claim_run, run_record, storage
from spae.ablations import ABLATIONS
from spae.config import ObjectiveConfig, TrainConfig
from spae.data.cache import ShardCache
from spae.data.publishing import join, publish, read_bytes
from spae.model_folder import shipped_models
from spae.networks.inflation import Inflation
from spae.presets import PRESETS
from spae.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

_PASSED_ON = ("threads", "compile", "loader_workers", "log_every", "checkpoint_every", "abort_on", "max_skipped")
"""Flags that workers know too."""


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Train SPAE on shards, guided by CLIP through a vocabulary.

    Example: python -m jobs.train digits-32 --shards runs/shards/train --val-shards runs/shards/val
    --vocabulary runs/vocabulary --clip ViT-L-14-quickgelu --clip-weights openai --run runs/digits --workers 2
    """

    shards: str
    """Split folder that `pipelines.images` or `pipelines.videos` wrote."""
    vocabulary: str
    """Vocabulary folder that `pipelines.vocabulary` wrote."""
    run: str
    """Run folder; the same command on it again continues."""
    ablation: str | None = None
    """Change the configuration into a row of the ablation table, such as frozen or saq-2 (spae/ablations.py)."""
    val_shards: str | None = None
    """Split folder to validate on."""
    clip: str | None = None
    """open_clip model that judged the vocabulary; needed while objective.semantic-weight is above 0."""
    clip_weights: str | None = None
    """Its weights: an open_clip tag or a file."""
    perceptual_weights: str | None = None
    """Weights of the ResNet-50 that judges resemblance: a file, or a tag of torchvision such as IMAGENET1K_V2; needed
    while objective.perceptual-weight is above 0. clip: CLIP's logits of the vocabulary's words stand in for it;
    efficientnet-lite0: those of this judge, with real weights of ImageNet; efficientnet-lite0@96: of pictures at 96
    pixels a side, with a fifth of the operations."""
    image_model: str | None = None
    """For a video model: the image model that it begins from, inflated; a model folder, the name of a shipped model, or
    a run folder, whose discriminator comes too."""
    inflation: Inflation = "central"
    """Where a kernel of the image model goes: central, in the middle frame; averaged, a share of it in each."""
    workers: str = "1"
    """Ray Train workers, one process and (on cuda) one GPU each: a number, or LEAST:MOST for as many of these as the
    cluster holds; where nodes go or come the run goes on from its last checkpoint with fewer or more."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where the cluster has GPUs when the job begins; the log says which. Never changed after that."""
    wait_for_resources: float = 1_800.0
    """Seconds to wait for an autoscaler, or for other jobs to end, until there is room for all workers."""
    threads: int = 1
    """Processor threads a worker."""
    compile: bool = False
    """Compile the networks first (torch.compile): minutes before the first step, then fewer passes over memory."""
    loader_workers: int = 0
    """Loader processes a worker, for each of which Ray keeps a processor free."""
    cache: str | None = None
    """Folder of each machine's own disk for fetched shards, which its workers share; without it each epoch reads them
    where they lie, a store's from their beginning to where each stream ends."""
    cache_bytes: int = 100_000_000_000
    """Bytes that it may hold; shards longest unread make room. Every epoch deals the shards anew, so that a machine
    comes to want all of them: what does not fit is fetched again."""
    log_every: int = 50
    """Steps between log lines."""
    checkpoint_every: int = 1_000
    """Steps between checkpoints and validations; the last step always makes one."""
    abort_on: Literal["never", "collapse"] = "never"
    """collapse: stop after an epoch whose codebook is sick, with a checkpoint."""
    max_skipped: int = 200
    """Steps in a row that change nothing, as a loss or gradient is not finite, after which training ends as failed."""
    max_failures: int = 3
    """Failures in a row without a new checkpoint after which the run is given up, -1 for never; each resumes."""
    ray_address: str | None = None
    """Cluster to use; RAY_ADDRESS counts too, and without either a local one is started."""
    replace: bool = False
    """Delete a run of other settings that the run folder holds; one of the same settings continues."""
    dry_run: bool = False
    """Print what would be trained, and what it takes, and stop."""
    worker_tflops: float | None = None
    """For --dry-run: 1e12 operations a second that a worker was measured to do, from which hours follow."""
    worker_price: float | None = None
    """For --dry-run: price of a worker's hour."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 well, 1 failed, 2 unusable arguments."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    flags = parse_flags(arguments)
    try:
        job = prepare(flags)
        if flags.dry_run:
            return 0
        if read_bytes(join(job.run, FINISHED_FILE)) is None:
            _train(job, flags)
    except ValueError as error:
        logger.error("%s", error)
        return 2
    except (ResourcesError, TrainingError) as error:
        logger.error("training failed: %s", error)
        return 1
    logger.info(
        "trained %d steps; export with: python -m jobs.export --run %s --output FOLDER", job.config.steps, job.run
    )
    return 0


def _train(job: TrainJob, flags: TrainFlags) -> None:
    least, most = _worker_range(flags.workers)
    cpus = max(os.cpu_count() or 1, most * (flags.threads + flags.loader_workers) + 1)
    may_grow = connect(flags.ray_address, num_cpus=cpus)
    job = dataclasses.replace(job, device=choose_device(flags.device))
    wait_for_room(least, worker_resources(job), flags.wait_for_resources, may_grow=may_grow)
    metrics = train_on_cluster(job, most if least == most else (least, most), flags.max_failures)
    if stopped := metrics.get("stopped"):
        raise TrainingError(stopped)
    finished = json.dumps(metrics).encode()
    persistently("marking the run as finished", lambda: publish(join(job.run, FINISHED_FILE), finished))


def parse_flags(arguments: Sequence[str] | None) -> TrainFlags:
    """The preset with its overrides; SystemExit 2 for flags that do not exist, the nearest named."""
    presets = {
        name: (f"preset for inputs of {config.model.input_size}", _flags(config)) for name, config in PRESETS.items()
    }
    return tyro.extras.overridable_config_cli(presets, args=arguments, description=TrainFlags.__doc__)


def _flags(config: TrainConfig) -> TrainFlags:
    missing: Any = tyro.MISSING
    return TrainFlags(shards=missing, vocabulary=missing, run=missing, config=config)


def prepare(flags: TrainFlags) -> TrainJob:
    """Check what can be checked before a cluster is asked for, and resolve the flags into the workers' job.

    Writes config.json into a new run folder. ValueError names what does not fit and the remedy.
    """
    vocabulary = Vocabulary.load(flags.vocabulary)
    config = _configure(flags, vocabulary)
    job = TrainJob(
        config=config,
        shards=place("--shards", flags.shards),
        val_shards=flags.val_shards and place("--val-shards", flags.val_shards),
        vocabulary=place("--vocabulary", flags.vocabulary),
        judges=_judges(flags, config.objective, vocabulary),
        run=place("--run", flags.run),
        image_model=_image_model(flags),
        cache=ShardCache(os.path.abspath(os.path.expanduser(flags.cache)), flags.cache_bytes) if flags.cache else None,
        device="cuda" if flags.device == "cuda" else "cpu",  # auto is decided where the cluster is known
        **{name: getattr(flags, name) for name in _PASSED_ON},
    )
    index = job.plan(rank=0, ranks=_worker_range(flags.workers)[1]).index
    check_media(index, config)
    image_model = job.image_model.check(config.model, vocabulary) if job.image_model else None
    epochs = config.steps * config.data.batch_size / (index.samples * config.data.clips_per_video)
    logger.info(
        "%d samples, %d words; %d steps of %d samples (%.1f epochs) on %s workers",
        *(index.samples, len(vocabulary), config.steps, config.data.batch_size, epochs, flags.workers),
    )
    storage(job.run)
    logger.info("%s", reading(job.plan(0, 1)))
    if flags.dry_run:
        most = _worker_range(flags.workers)[1]
        for line in computing(config, len(vocabulary), most, flags.worker_tflops, flags.worker_price):
            logger.info("%s", line)
    else:
        claim_run(job.run, run_record(config, vocabulary, job.vocabulary, index, image_model), replace=flags.replace)
    return job


def _judges(flags: TrainFlags, objective: ObjectiveConfig, vocabulary: Vocabulary) -> JudgeSource:
    """Where the judges come from, of those that the objective weighs."""
    judged = _needs_clip(flags, objective, vocabulary)
    weights = flags.perceptual_weights if objective.perceptual_weight else None
    return JudgeSource(
        clip=_clip(flags.clip) if judged and flags.clip else None,
        clip_weights=_weights("--clip-weights", flags.clip_weights),
        perceptual_weights=_weights("--perceptual-weights", weights),
    )


def _needs_clip(flags: TrainFlags, objective: ObjectiveConfig, vocabulary: Vocabulary) -> bool:
    """Whether CLIP judges the run; ValueError where a judge is missing that the objective weighs."""
    stand_in = flags.perceptual_weights == CLIP_STAND_IN
    if objective.perceptual_weight and flags.perceptual_weights is None:
        raise ValueError("the perceptual loss needs --perceptual-weights; give it, or --objective.perceptual-weight 0")
    if not objective.semantic_weight and not (objective.perceptual_weight and stand_in):
        return False
    if flags.clip is None:
        raise ValueError(
            "semantic guidance, or clip for a ResNet-50, needs --clip; or give --objective.semantic-weight 0"
        )
    if vocabulary.semantics is None:
        raise ValueError(f"{flags.vocabulary} holds no semantics; build it with `python -m pipelines.vocabulary`")
    return True


def _configure(flags: TrainFlags, vocabulary: Vocabulary) -> TrainConfig:
    """The configuration of the run: its row of the ablation table, the table's width and size."""
    config = flags.config
    if flags.ablation is not None:
        if flags.ablation not in ABLATIONS:
            raise ValueError(f"--ablation {flags.ablation!r} is none of {list(ABLATIONS)}")
        config = ABLATIONS[flags.ablation](config)
    model = config.model
    if model.table != "learned":
        model = dataclasses.replace(model, embedding_width=vocabulary.width)
    if model.table_size and model.table_size > len(vocabulary):
        logger.warning("the vocabulary has %d words: so many instead of %d", len(vocabulary), model.table_size)
        model = dataclasses.replace(model, table_size=len(vocabulary))
    return dataclasses.replace(config, model=model)


def _worker_range(workers: str) -> tuple[int, int]:
    """The least and the most of --workers, equal for a number."""
    found = re.fullmatch(r"(\d+)(?::(\d+))?", workers)
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= least <= most:
        raise ValueError(f"--workers {workers} must be a number from 1 on, or LEAST:MOST, such as 2:8")
    return least, most


def _image_model(flags: TrainFlags) -> ImageModel | None:
    """The image model from any working directory; the name of a shipped one stays as it is."""
    if flags.image_model is None:
        return None
    shipped = flags.image_model in shipped_models() and not os.path.exists(flags.image_model)
    return ImageModel(flags.image_model if shipped else place("--image-model", flags.image_model), flags.inflation)


def _weights(flag: str, weights: str | None) -> str | None:
    """A weights file from any working directory; a tag stays as it is."""
    return place(flag, weights) if weights and os.path.exists(weights) else weights


def _clip(name: str) -> str:
    """The same CLIP from any working directory."""
    schema, _, folder = name.partition(":")
    return f"{schema}:{place('--clip', folder)}" if schema == "local-dir" else name


if __name__ == "__main__":
    sys.exit(main())
