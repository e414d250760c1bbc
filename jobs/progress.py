"""What a training worker tells the world: log lines, the history, validation, checkpoints."""

import json
import logging
import os
import tempfile
import time

import ray.train
import torch
from torch import Tensor

from jobs.runs import HISTORY_FILE, STATE_FILE, checkpoint_name, read_history
from spae.config import TrainConfig
from spae.losses import pixel_loss
from spae.model import SPAE, unit_pixels
from spae.order import StreamOrder
from spae.publishing import join, publish
from spae.training import TrainState
from spae.usage import WordUsage

logger = logging.getLogger(__name__)

_SHOWN = ("pixel", "commitment", "semantic", "dynamic_weight")


class Progress:
    """The first worker logs, validates and writes checkpoints; the others only keep step with it.

    Args:
        run: URL of the run folder.
        config: the run's configuration.
        state: the live training state.
        rank: this worker's rank.
        validation: uint8 (B, 3, *S) pictures to validate on, on the first worker only.
    """

    def __init__(self, run: str, config: TrainConfig, state: TrainState, rank: int, validation: Tensor | None) -> None:
        self.run, self.config, self.state, self.rank = run, config, state, rank
        self.validation = validation
        self.history = [row for row in read_history(run) if row["step"] <= state.step] if rank == 0 else []
        self._restart()

    def _restart(self) -> None:
        model = self.state.model
        self.usage = WordUsage(len(model.codebook), model.depth, model.device)
        self.started, self.first_step = time.monotonic(), self.state.step

    def log(self, terms: dict[str, Tensor]) -> None:
        """One line and one row of the history; word usage is that of this worker's samples since the last one."""
        if self.rank == 0:
            self.history.append(self._row(terms))
            logger.info("%s", self._line(self.history[-1]))
        self._restart()

    def _row(self, terms: dict[str, Tensor]) -> dict[str, float]:
        row: dict[str, float] = {"step": self.state.step, **{name: float(value) for name, value in terms.items()}}
        for number, layer in enumerate(self.usage.compute(), 1):
            row |= {f"perplexity/{number}": layer.perplexity, f"words/{number}": layer.words}
            row |= {f"top_share/{number}": layer.top_share}
        samples = (self.state.step - self.first_step) * self.config.data.batch_size
        row["images_per_second"] = samples / (time.monotonic() - self.started)
        return row

    def _line(self, row: dict[str, float]) -> str:
        remaining = (self.config.steps - self.state.step) * self.config.data.batch_size / row["images_per_second"]
        shown = "  ".join(f"{name} {row[name]:.4g}" for name in _SHOWN if name in row)
        layers = range(1, self.state.model.depth + 1)
        perplexities = "/".join(f"{row[f'perplexity/{layer}']:.0f}" for layer in layers)
        radii = "/".join(f"{row[f'latent_radius/{layer}']:.2f}" for layer in layers)
        return (
            f"step {self.state.step}/{self.config.steps}  {shown}  perplexity {perplexities}  |z| {radii}  "
            f"{row['images_per_second']:.0f} images/s  {remaining:.0f} s left"
        )

    def checkpoint(self, order: StreamOrder) -> None:
        """Validate, publish the history and save the state; a barrier that every worker must reach."""
        name = checkpoint_name(self.state.step)
        metrics: dict[str, float] = {"step": self.state.step}
        if self.rank != 0:
            ray.train.report(metrics, checkpoint_dir_name=name)
            return
        if self.validation is not None:
            metrics["validation_psnr"] = validation_psnr(self.state.average, self.validation)
            logger.info("step %d  %.2f dB on validation pictures", self.state.step, metrics["validation_psnr"])
            if self.history:
                self.history[-1] |= metrics
        publish(join(self.run, HISTORY_FILE), "".join(json.dumps(row) + "\n" for row in self.history).encode())
        with tempfile.TemporaryDirectory() as folder:
            saved = self.state.state_dict(order.position(self.state.seen))
            torch.save(saved, os.path.join(folder, STATE_FILE))
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(metrics, checkpoint=checkpoint, checkpoint_dir_name=name)


@torch.no_grad()
def validation_psnr(model: SPAE, pixels: Tensor) -> float:
    """PSNR in dB of all layers on pictures uint8 (B, 3, *S), from their common mean squared error."""
    rebuilt = model.decode(model.encode(pixels))
    return float(-10 * pixel_loss(rebuilt, unit_pixels(pixels)).log10())
