"""What the workers of a training need to know."""

from dataclasses import dataclass
from typing import Literal

from jobs.resources import Device
from jobs.training.image_model import ImageModel
from jobs.training.judges import JudgeSource
from spae.config import TrainConfig
from spae.data.cache import ShardCache
from spae.data.loader import BatchPlan
from spae.data.records import load_index


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """A training as its workers carry it out: the configuration is resolved, places hold in any working directory."""

    config: TrainConfig
    shards: str
    val_shards: str | None
    """None without validation."""
    vocabulary: str
    judges: JudgeSource
    run: str
    image_model: ImageModel | None
    """That a video model begins from."""
    device: Device
    """What every worker must compute on."""
    threads: int
    """Processor threads a worker."""
    compile: bool
    loader_workers: int
    cache: ShardCache | None
    log_every: int
    checkpoint_every: int
    abort_on: Literal["never", "collapse"]
    max_skipped: int

    def plan(self, rank: int, ranks: int) -> BatchPlan:
        """Which samples a rank reads; ValueError where there are more ranks than samples in a batch."""
        config = self.config
        guided = len(config.objective.semantic_thresholds) if config.objective.semantic_weight else 0
        return BatchPlan(
            index=load_index(self.shards),
            data=config.data,
            input_size=config.model.input_size,
            draws=sum(config.model.layer_sizes[:guided]),
            seed=config.seed,
            rank=rank,
            ranks=ranks,
            loader_workers=self.loader_workers,
            cache=self.cache,
        )
