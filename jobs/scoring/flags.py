"""The flags of `jobs.evaluate`."""

from dataclasses import dataclass
from typing import Literal

from spae.config import PAPER_THRESHOLDS


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """What is scored, and against what."""

    model: str
    """Model folder, by path, URL or hub id."""
    shards: str
    """Folder of the split to score; its classes.parquet names the labels."""
    output: str
    """JSON file to write; what was counted of each shard lies in a folder of its name with .parts, so that the same
    command continues a killed run. See --pages for what else is written."""
    tokens: str | None = None
    """Folder of token tables of this split by this model; without it the pictures are encoded."""
    train_shards: str | None = None
    """Training split for the baselines: the best map from first words to classes, and the nearest picture. It is held
    in memory."""
    vocabulary: str | None = None
    """Vocabulary folder with the semantics of --clip."""
    clip: str | None = None
    """open_clip model that judged the vocabulary."""
    clip_weights: str | None = None
    """Its weights: an open_clip tag or a file."""
    pool_thresholds: tuple[float, ...] = PAPER_THRESHOLDS
    """With --clip: of the first layers' words the share that lies in the pools of so high a threshold (equation 4)."""
    layers: str = "all"
    """Numbers of layers to decode, such as 1,3,5."""
    batch: int = 64
    """Pictures of every pass of the model, as in the token tables."""
    frame_stride: int = 1
    """Of videos: how many frames further each next frame of a clip lies; the clip in the middle is scored."""
    judges: tuple[str, ...] = ()
    """Frozen networks that measure the pictures, by names of `python -m jobs.judges`, or NAME=FILE with weights."""
    judged_layers: str = "all"
    """Numbers of layers whose pictures --judges see, such as 5; most of the time goes into them."""
    codecs: tuple[Literal["jpeg", "webp", "bicubic"], ...] = ()
    """What else rebuilds the pictures: JPEG and WebP at the words' bits, bicubic down and up at as many values."""
    baseline_model: str | None = None
    """Another model folder, such as one with a learned codebook, that rebuilds them from all its words."""
    inception_splits: int = 1
    """Parts of the split for the Inception score, by key; papers take 10 of 50,000 pictures."""
    references: str | None = None
    """Folder that keeps what judges saw in the originals, for runs of other models."""
    compare: tuple[str, ...] = ()
    """Documents of other runs to show beside this one; refused where the protocol is another."""
    pages: bool = False
    """Write a table (.md), its plots against words (.png) and bits (-bits.png), some pictures with their words and what
    the layers rebuild (-pictures.png; clips in strips), and which words the layers use (-words.png) beside the output;
    with --judges this is done anyway."""
    examples: int = 8
    """Pictures that are drawn."""
    device: Literal["cpu", "cuda"] = "cpu"
    workers: int | None = None
    """Actors of a Ray cluster that score shards, on a CPU with one thread each: any number gives the same bits. By
    default this process alone, without Ray."""
    worker_cpus: float = 1.0
    """CPUs that Ray reserves for an actor."""
    ray_address: str | None = None
    """Cluster to use, else that of RAY_ADDRESS, else one on this machine for this run alone."""
    wait_for_resources: float | None = None
    """Seconds to wait for room for all workers, then for less; by default half an hour if there is room for none."""
    seed: int = 0
    """Deals pictures to the parts of --inception-splits."""
    limit: int | None = None
    """Score the first shards only."""
    dry_run: bool = False
    """Print what would be scored, and score nothing."""
    max_error_share: float = 0.01
    """Share of undecodable samples above which the command ends as failed."""

    def __post_init__(self) -> None:
        for name in ("batch", "frame_stride", "limit", "workers", "inception_splits", "examples"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} {value} must be at least 1")
        if any(not 0 <= threshold <= 1 for threshold in self.pool_thresholds):
            raise ValueError(f"--pool-thresholds {self.pool_thresholds} must lie in 0 to 1")
        if self.worker_cpus <= 0:
            raise ValueError(f"--worker-cpus {self.worker_cpus} must be above 0")
        if (self.clip is None) != (self.vocabulary is None):
            raise ValueError("--vocabulary and --clip belong together: CLIP judges by the features stored there")

    @property
    def named(self) -> str:
        """The output's URL without .json, which all that is written beside it begins with."""
        return self.output.removesuffix(".json")
