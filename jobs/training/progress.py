"""What a training worker tells the world: log lines, the history, validation, checkpoints."""

import json
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import ray.train
import torch
from torch import Tensor

from jobs.training.run_folder import HISTORY_FILE, STATE_FILE, checkpoint_name, read_history
from spae.codebook.health import problems
from spae.codebook.usage import WordUsage
from spae.collectives import world_size
from spae.config import TrainConfig
from spae.data.order import StreamOrder
from spae.data.publishing import join, publish
from spae.model import SPAE, unit_pixels
from spae.training.losses import pixel_loss
from spae.training.state import TrainState
from spae.training.step import StepResult
from spae.training.telemetry import suspects

logger = logging.getLogger(__name__)

_SHOWN = ("pixel", "commitment", "perceptual", "adversarial", "discriminator", "semantic", "dynamic_weight")
_HEALTH = ("words", "share", "entropy", "perplexity", "top_share")
_KEYS_NAMED = 20  # samples of a step that was not finite


class Progress:
    """The first worker logs, validates and writes checkpoints; the others only keep step with it.

    Args:
        run: URL of the run folder.
        config: the run's configuration.
        state: the live training state.
        rank: this worker's rank.
        validation: uint8 (B, 3, *S) pictures to validate on, on the first worker only.
        samples: of the training split, an epoch.
    """

    def __init__(
        self, run: str, config: TrainConfig, state: TrainState, rank: int, validation: Tensor | None, samples: int
    ) -> None:
        self.run, self.config, self.state, self.rank = run, config, state, rank
        self.validation, self.samples = validation, samples
        self.history = [row for row in read_history(run) if row["step"] <= state.step] if rank == 0 else []
        self.epoch, self.epoch_usage = state.seen // samples, self._no_usage()
        self._restart()

    def _no_usage(self) -> WordUsage:
        model = self.state.model
        return WordUsage(len(model.codebook), model.depth, model.device)

    def _restart(self) -> None:
        self.usage = self._no_usage()
        self.skipped = torch.zeros((), device=self.state.model.device)
        self.doubtful: list[tuple[Tensor, Tensor, Tensor, Sequence[str]]] = []
        self.started, self.first_step = time.monotonic(), self.state.step

    def update(self, result: StepResult, keys: Sequence[str]) -> None:
        """Take note of a step on this worker's samples, without waiting for the device."""
        self.usage.update(result.quantized.tokens)
        self.skipped = self.skipped + result.terms["skipped"]
        self.doubtful.append((result.loss_finite, result.samples_finite, result.terms["culprits"], keys))

    def log(self, terms: dict[str, Tensor]) -> list[str]:
        """One line and one row of the history; word usage is that of this worker's samples since the last one.

        At the end of an epoch the codebook's health over all workers is told too; what is wrong with it is returned,
        the same on every worker.
        """
        self.epoch_usage.merge(self.usage)
        if self.rank == 0:
            self.history.append(self._row(terms))
            logger.info("%s", self._line(self.history[-1]))
        self._name_suspects()
        found = self._end_epoch(terms) if self.state.seen // self.samples > self.epoch else []
        self._restart()
        return found

    def _name_suspects(self) -> None:
        for loss_finite, samples_finite, culprits, keys in self.doubtful:
            if not bool(loss_finite) and (blamed := suspects(keys, samples_finite, float(culprits))):
                known = "by" if float(culprits) else "perhaps by"
                logger.warning("a loss was not finite, %s samples %s", known, ", ".join(blamed[:_KEYS_NAMED]))
        if (skipped := int(self.skipped)) and self.rank == 0:
            steps = self.state.step - self.first_step
            logger.warning("%d of %d steps were skipped: a loss or gradient was not finite", skipped, steps)

    def _end_epoch(self, terms: dict[str, Tensor]) -> list[str]:
        if world_size() > 1:
            torch.distributed.all_reduce(self.epoch_usage.counts)
        usage = self.epoch_usage.compute()
        radii = [float(terms[f"latent_radius/{number}"]) for number in range(1, len(usage) + 1)]
        repeats = float(terms["repeats"]) if "repeats" in terms else None
        found = problems(usage, radii, repeats)
        self.epoch, self.epoch_usage = self.state.seen // self.samples, self._no_usage()
        if self.rank == 0:
            for number, (layer, radius) in enumerate(zip(usage, radii, strict=True), 1):
                logger.info(
                    "epoch %d, layer %d: %d words (%.0f%%), perplexity %.1f, entropy %.2f, top word %.1f%%, |z| %.2f",
                    *(self.epoch, number, layer.words, 100 * layer.share, layer.perplexity, layer.entropy),
                    *(100 * layer.top_share, radius),
                )
                self.history[-1] |= {f"epoch_{name}/{number}": getattr(layer, name) for name in _HEALTH}
            for sentence in found:
                logger.warning("%s", sentence)
        return found

    def _row(self, terms: dict[str, Tensor]) -> dict[str, float]:
        row: dict[str, float] = {"step": self.state.step, **{name: float(value) for name, value in terms.items()}}
        for number, layer in enumerate(self.usage.compute(), 1):
            row |= {f"perplexity/{number}": layer.perplexity, f"words/{number}": layer.words}
            row |= {f"top_share/{number}": layer.top_share}
        row["skipped"] = float(self.skipped)
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

    def checkpoint(self, order: StreamOrder, stopped: str = "") -> None:
        """Validate, publish the history and save the state; a barrier that every worker must reach.

        `stopped` tells the driver why the run ends here, where it ends early.
        """
        name = checkpoint_name(self.state.step)
        metrics: dict[str, Any] = {"step": self.state.step, **({"stopped": stopped} if stopped else {})}
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
    model.refresh()
    rebuilt = model.decode(model.encode(pixels))
    return float(-10 * pixel_loss(rebuilt, unit_pixels(pixels)).log10())
