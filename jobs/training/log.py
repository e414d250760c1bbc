"""The lines of a training and its history: a row of figures for each line."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jobs.retries import persistently
from jobs.training.board import Board
from jobs.training.run_folder import HISTORY_FILE, read_history
from jobs.training.usage import EpochHealth
from spae.codebook.usage import LayerUsage
from spae.collectives import Terms, average_terms, world_size
from spae.config import TrainConfig
from spae.data.batch import Batch
from spae.data.publishing import join, publish
from spae.training.schedule import learning_rate
from spae.training.step import StepResult
from spae.training.telemetry import suspects

logger = logging.getLogger(__name__)

_SHOWN = ("pixel", "commitment", "perceptual", "adversarial", "discriminator", "semantic", "dynamic_weight")
_HEALTH = ("words", "share", "entropy", "perplexity", "top_share")
_KEYS_NAMED = 20  # samples of a step that was not finite


@dataclass(frozen=True)
class _Doubt:
    """A step of this worker whose loss may not have been finite; tensors stay on the device until a line."""

    loss_finite: Tensor
    samples_finite: Tensor
    culprits: Tensor
    keys: Sequence[str]

    def warn(self) -> None:
        """Name the samples to blame, where there are any."""
        if bool(self.loss_finite):
            return
        culprits = float(self.culprits)
        if blamed := suspects(self.keys, self.samples_finite, culprits):
            known = "by" if culprits else "perhaps by"
            logger.warning("a loss was not finite, %s samples %s", known, ", ".join(blamed[:_KEYS_NAMED]))


class TrainingLog:
    """The first worker's lines and history; the other workers only name samples of theirs that are to blame.

    Args:
        run: URL of the run folder.
        config: the run's configuration.
        step: steps that are done; rows of the history after them are dropped.
        rank: this worker's rank.
    """

    def __init__(self, run: str, config: TrainConfig, step: int, rank: int) -> None:
        self.run, self.config, self.first = run, config, rank == 0
        self.history: list[dict[str, Any]] = []
        if self.first:
            self.history = [row for row in read_history(run) if row["step"] <= step]
            self.board, self._shown = Board(run, step), len(self.history)
        self._restart(step)

    def _restart(self, step: int) -> None:
        self._skipped: Tensor | float = 0.0
        self._undecodable, self._waited = 0, 0.0
        self._doubtful: list[_Doubt] = []
        self._started, self._first_step = time.monotonic(), step

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time the block as a wait for data."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def update(self, result: StepResult, batch: Batch) -> None:
        """Take note of a step on this worker's samples, without waiting for the device."""
        self._skipped = self._skipped + result.terms["skipped"]
        self._doubtful.append(_Doubt(result.loss_finite, result.samples_finite, result.terms["culprits"], batch.keys))
        self._undecodable += batch.undecodable

    def line(self, step: int, terms: Terms, usage: Sequence[LayerUsage]) -> None:
        """One line and one row of the history after a step; every worker must call it.

        Args:
            step: number of the step.
            terms: what it told.
            usage: of each layer, by this worker's samples since the last line.
        """
        undecodable = torch.tensor(float(self._undecodable), device=terms["skipped"].device)
        undecodable = average_terms({"undecodable": undecodable})["undecodable"] * world_size()
        for doubt in self._doubtful:
            doubt.warn()
        if self.first:
            self.history.append(self._row(step, terms | {"undecodable": undecodable}, usage))
            logger.info("%s", self._line(self.history[-1], len(usage)))
            if skipped := int(self._skipped):
                steps = step - self._first_step
                logger.warning("%d of %d steps were skipped: a loss or gradient was not finite", skipped, steps)
            if lost := round(float(undecodable)):
                logger.warning("%d samples could not be decoded since the last line; grey stood in for them", lost)
        self._restart(step)

    def _row(self, step: int, terms: Terms, usage: Sequence[LayerUsage]) -> dict[str, Any]:
        row: dict[str, Any] = {"step": step, **{name: float(value) for name, value in terms.items()}}
        for number, layer in enumerate(usage, 1):
            row |= {f"perplexity/{number}": layer.perplexity, f"words/{number}": layer.words}
            row |= {f"top_share/{number}": layer.top_share}
        row["skipped"] = float(self._skipped)
        samples = (step - self._first_step) * self.config.data.batch_size
        seconds = time.monotonic() - self._started
        row |= {"images_per_second": samples / seconds, "data_wait": self._waited / seconds}
        row["learning_rate"] = learning_rate(step - 1, self.config.steps, self.config.optimizer)
        return row

    def _line(self, row: Mapping[str, Any], depth: int) -> str:
        remaining = (self.config.steps - row["step"]) * self.config.data.batch_size / row["images_per_second"]
        shown = "  ".join(f"{name} {row[name]:.4g}" for name in _SHOWN if name in row)
        perplexities = "/".join(f"{row[f'perplexity/{layer}']:.0f}" for layer in range(1, depth + 1))
        radii = "/".join(f"{row[f'latent_radius/{layer}']:.2f}" for layer in range(1, depth + 1))
        return (
            f"step {row['step']}/{self.config.steps}  {shown}  perplexity {perplexities}  |z| {radii}  "
            f"{row['images_per_second']:.0f} images/s  data wait {row['data_wait']:.0%}  {remaining:.0f} s left"
        )

    def epoch(self, health: EpochHealth) -> None:
        """Lines on the codebook's health, which also joins the last row; a warning for each problem."""
        if not self.first:
            return
        for number, (layer, radius) in enumerate(zip(health.layers, health.radii, strict=True), 1):
            logger.info(
                "epoch %d, layer %d: %d words (%.0f%%), perplexity %.1f, entropy %.2f, top word %.1f%%, |z| %.2f",
                *(health.epoch, number, layer.words, 100 * layer.share, layer.perplexity, layer.entropy),
                *(100 * layer.top_share, radius),
            )
            self.history[-1] |= {f"epoch_{name}/{number}": getattr(layer, name) for name in _HEALTH}
        for sentence in (*health.problems, *health.pools):
            logger.warning("%s", sentence)

    def validation(self, step: int, psnr: float) -> None:
        """A line on the validation after a step; it joins the last row."""
        logger.info("step %d  %.2f dB on validation pictures", step, psnr)
        if self.history:
            self.history[-1]["validation_psnr"] = psnr

    @property
    def at_best(self) -> bool:
        """Whether the last row has been validated, no worse than any before."""
        found = [row["validation_psnr"] for row in self.history if "validation_psnr" in row]
        return bool(found) and self.history[-1].get("validation_psnr") == max(found)

    def publish(self) -> None:
        """Write the history into the run folder."""
        rows = "".join(json.dumps(row) + "\n" for row in self.history)
        if self.first:
            new, self._shown = self.history[self._shown :], len(self.history)
            persistently("publishing what TensorBoard shows", lambda: self.board.publish(new))
            url = join(self.run, HISTORY_FILE)
            persistently("publishing the history", lambda: publish(url, rows.encode()))
