"""Train a tokenizer with Ray Train: a plain loop on every worker, exact resume from the run folder.

A run folder (any fsspec URL) holds `config.json` (all that decides the run), `history.jsonl` (what was logged) and
`step-XXXXXXXX/state.pt` checkpoints. Running the same command again continues; with other settings it is refused.
"""

import dataclasses
import itertools
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import fsspec
import pyarrow.fs
import ray
import ray.train
import ray.train.torch
import torch
import tyro

from jobs.cluster import connect
from jobs.training.judges import CLIP_STAND_IN, JudgeSource, load_judges
from jobs.training.progress import Progress
from jobs.training.run_folder import FINISHED_FILE, STATE_FILE, claim_run, run_record
from spae.ablations import ABLATIONS
from spae.config import TrainConfig
from spae.data.augmentation import load_pictures
from spae.data.loader import BatchPlan, batches
from spae.data.publishing import absolute, join, publish, read_bytes
from spae.data.records import load_index
from spae.data.tar import read_samples
from spae.model import SPAE
from spae.presets import PRESETS
from spae.training.objective import Objective
from spae.training.state import TrainState
from spae.training.step import train_step
from spae.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

_VALIDATION_PICTURES = 256  # held in memory by the first worker


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Train SPAE on shards, guided by CLIP through a vocabulary.

    Example: python -m jobs.train digits-32 --shards runs/shards/train --val-shards runs/shards/val
    --vocabulary runs/vocabulary --clip ViT-L-14-quickgelu --clip-weights openai --run runs/digits --workers 2
    """

    shards: str
    """Split folder that `pipelines.images` wrote."""
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
    while objective.perceptual-weight is above 0. clip: CLIP's logits of the vocabulary's words stand in for it."""
    workers: int = 1
    """Ray Train workers, one process and one GPU (if there are any) each."""
    threads: int = 1
    """Processor threads a worker."""
    compile: bool = False
    """Compile the networks first (torch.compile): minutes before the first step, then fewer passes over memory."""
    loader_workers: int = 0
    """Loader processes a worker."""
    log_every: int = 50
    """Steps between log lines."""
    checkpoint_every: int = 1_000
    """Steps between checkpoints and validations; the last step always makes one."""
    abort_on: Literal["never", "collapse"] = "never"
    """collapse: stop after an epoch whose codebook is sick, with a checkpoint."""
    max_failures: int = 3
    """Worker failures after which the run is given up; each resumes from the last checkpoint."""
    ray_address: str | None = None
    """Cluster to use; RAY_ADDRESS counts too, and without either a local one is started."""
    replace: bool = False
    """Delete what the run folder holds and begin anew."""
    dry_run: bool = False
    """Print what would be trained and stop."""
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
            connect(job.ray_address, num_cpus=max(os.cpu_count() or 1, job.workers * job.threads + 1))
            result = run(job)
            stopped = (result.metrics or {}).get("stopped")
            if result.error is not None or stopped:
                logger.error("training failed: %s", result.error or stopped)
                return 1
            publish(join(job.run, FINISHED_FILE), json.dumps(result.metrics).encode())
    except ValueError as error:
        logger.error("%s", error)
        return 2
    logger.info(
        "trained %d steps; export with: python -m jobs.export --run %s --output FOLDER", job.config.steps, job.run
    )
    return 0


def parse_flags(arguments: Sequence[str] | None) -> TrainFlags:
    """The preset with its overrides; SystemExit 2 for flags that do not exist, the nearest named."""
    presets = {
        name: (f"preset for inputs of {config.model.input_size}", _flags(config)) for name, config in PRESETS.items()
    }
    return tyro.extras.overridable_config_cli(presets, args=arguments, description=TrainFlags.__doc__)


def _flags(config: TrainConfig) -> TrainFlags:
    missing: Any = tyro.MISSING
    return TrainFlags(shards=missing, vocabulary=missing, run=missing, config=config)


def prepare(flags: TrainFlags) -> TrainFlags:
    """Check what can be checked before a cluster is asked for, and fix the job: absolute URLs, the table's width.

    Writes config.json into a new run folder. ValueError names what does not fit and the remedy.
    """
    vocabulary = Vocabulary.load(flags.vocabulary)
    flags = dataclasses.replace(flags, config=_configure(flags, vocabulary))
    judged = _needs_clip(flags, vocabulary)
    weights = flags.perceptual_weights if flags.config.objective.perceptual_weight else None
    job = dataclasses.replace(
        flags,
        shards=absolute(flags.shards),
        val_shards=flags.val_shards and absolute(flags.val_shards),
        vocabulary=absolute(flags.vocabulary),
        run=absolute(flags.run),
        clip=_absolute_clip(flags.clip) if judged and flags.clip else None,
        clip_weights=_absolute_file(flags.clip_weights),
        perceptual_weights=_absolute_file(weights),
    )
    plan = _plan(job, rank=0, ranks=job.workers)
    epochs = job.config.steps * job.config.data.batch_size / plan.index.samples
    logger.info(
        "%d samples, %d words; %d steps of %d samples (%.1f epochs) on %d workers",
        *(plan.index.samples, len(vocabulary), job.config.steps, job.config.data.batch_size, epochs, job.workers),
    )
    if not flags.dry_run:
        record = run_record(job.config, vocabulary, job.vocabulary, plan.index)
        claim_run(job.run, record, replace=job.replace)
    return job


def _needs_clip(flags: TrainFlags, vocabulary: Vocabulary) -> bool:
    """Whether CLIP judges the run; ValueError where a judge is missing that the objective weighs."""
    objective, stand_in = flags.config.objective, flags.perceptual_weights == CLIP_STAND_IN
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


def run(job: TrainFlags) -> ray.train.Result:
    """Train until the last step, on the cluster that this process is connected to."""
    use_gpu = ray.cluster_resources().get("GPU", 0) >= job.workers
    file_system, path = fsspec.url_to_fs(job.run)
    storage, _, name = path.rstrip("/").rpartition("/")
    trainer = ray.train.torch.TorchTrainer(
        train_loop,
        train_loop_config={"job": job},
        scaling_config=ray.train.ScalingConfig(
            num_workers=job.workers, use_gpu=use_gpu, resources_per_worker={"CPU": job.threads, "GPU": int(use_gpu)}
        ),
        run_config=ray.train.RunConfig(  # type: ignore[call-arg] # typed as the older version's, which lacks logging
            name=name,
            storage_path=storage,
            storage_filesystem=pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(file_system)),
            failure_config=ray.train.FailureConfig(max_failures=job.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=3),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )
    return trainer.fit()


def train_loop(settings: dict[str, Any]) -> None:
    """What every Ray Train worker runs."""
    job: TrainFlags = settings["job"]
    _log_from_worker()
    rank, device = ray.train.get_context().get_world_rank(), ray.train.torch.get_device()
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.config.seed)
    vocabulary = Vocabulary.load(job.vocabulary)
    state = TrainState.create(job.config, SPAE(job.config.model, vocabulary).to(device))
    if job.compile:
        state.model.compile_networks()
    source = JudgeSource(job.clip, job.clip_weights, job.perceptual_weights)
    judges = load_judges(source, vocabulary, job.config.objective.semantic_weight > 0, device)
    objective = Objective(job.config.objective, judges.guidance, judges.perceptual)
    plan = _plan(job, rank, ray.train.get_context().get_world_size())
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            saved = torch.load(os.path.join(folder, STATE_FILE), map_location=device, weights_only=True)
        state.load_state_dict(saved, plan.order)
    progress = Progress(job.run, job.config, state, rank, _validation(job, rank, device), plan.index.samples)
    for batch in batches(plan, state.seen):
        if state.step >= job.config.steps:
            break
        result = train_step(state, objective, batch.to(device), job.config)
        progress.update(result, batch.keys)
        last, found = state.step == job.config.steps, []
        if last or state.step % job.log_every == 0:
            found = progress.log(result.terms)
        sick = job.abort_on == "collapse" and bool(found)
        if last or sick or state.step % job.checkpoint_every == 0:
            progress.checkpoint(plan.order, "; ".join(found) if sick else "")
        if sick:
            return


def _log_from_worker() -> None:
    """Lines of ours alone: Ray's loggers tell of every report, and open_clip of every file."""
    handler = logging.StreamHandler(sys.stderr)
    for other in (logging.getLogger(), logging.getLogger("ray.train")):
        other.setLevel(logging.WARNING)
    for package in (logging.getLogger("jobs"), logging.getLogger("spae")):
        package.setLevel(logging.INFO)
        package.handlers, package.propagate = [handler], False  # open_clip gives the root logger a handler too


def _plan(job: TrainFlags, rank: int, ranks: int) -> BatchPlan:
    config = job.config
    guided = len(config.objective.semantic_thresholds) if config.objective.semantic_weight else 0
    return BatchPlan(
        index=load_index(job.shards),
        data=config.data,
        input_size=config.model.input_size,
        draws=sum(config.model.layer_sizes[:guided]),
        seed=config.seed,
        rank=rank,
        ranks=ranks,
        loader_workers=job.loader_workers,
    )


def _validation(job: TrainFlags, rank: int, device: torch.device) -> torch.Tensor | None:
    if rank != 0 or job.val_shards is None:
        return None
    samples = (sample for shard in load_index(job.val_shards).shards for sample in read_samples(shard.url))
    media = [sample.media for sample in itertools.islice(samples, _VALIDATION_PICTURES)]
    return load_pictures(media, job.config.model.input_size).to(device)


def _absolute_file(weights: str | None) -> str | None:
    """A weights file from any working directory; a tag stays as it is."""
    return os.path.abspath(weights) if weights and os.path.exists(weights) else weights


def _absolute_clip(name: str) -> str:
    """The same CLIP from any working directory."""
    schema, _, folder = name.partition(":")
    return f"{schema}:{os.path.abspath(folder)}" if schema == "local-dir" else name


if __name__ == "__main__":
    sys.exit(main())
