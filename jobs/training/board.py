"""What TensorBoard shows of a training, in `tensorboard/` of the run folder: a file a checkpoint."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tensorboardX import SummaryWriter
from torch import Tensor

from spae.data.publishing import join, publish
from spae.data.scratch import ScratchFolder
from spae.model import SPAE, unit_pixels

SHOWN = 8
"""Pictures whose reconstructions are shown, the first to validate on."""


class Board:
    """The figures of each line, and what the average makes of a few pictures.

    Args:
        run: URL of the run folder.
        step: steps that are done; what an earlier attempt showed after them is forgotten.
    """

    def __init__(self, run: str, step: int) -> None:
        self._run = run
        self._purge_step: int | None = step + 1
        self._drawn: tuple[int, Tensor, str] | None = None

    @torch.no_grad()
    def draw(self, step: int, model: SPAE, pixels: Tensor) -> None:
        """Show with the next rows the first pictures, or middle frames of clips, uint8 (B, 3, *S), above their
        reconstructions from one layer, two, and so on; and their first words."""
        pixels = pixels[:SHOWN].to(model.device)
        pyramid = model.encode(pixels)
        rows = [unit_pixels(pixels), *(model.decode(pyramid, layers) for layers in range(1, model.depth + 1))]
        if pixels.ndim == 5:
            rows = [row[:, :, row.shape[2] // 2] for row in rows]
        grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1).cpu()
        words = model.vocabulary.words(pyramid, layers=1)
        self._drawn = step, grid, ", ".join(" ".join(one) for one in words)

    def publish(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show rows of the history that were not shown before, and what was drawn."""
        with ScratchFolder("tensorboard") as folder:
            suffix = f".{rows[-1]['step']}" if rows else ""
            with SummaryWriter(folder, purge_step=self._purge_step, filename_suffix=suffix) as writer:
                for row in rows:
                    for name in row.keys() - {"step"}:
                        writer.add_scalar(name, row[name], row["step"])
                if self._drawn:
                    step, grid, words = self._drawn
                    writer.add_image("reconstructions", grid.numpy(), step)
                    writer.add_text("first_words", words, step)
            for name in os.listdir(folder):
                publish(join(self._run, "tensorboard", name), Path(folder, name))
        self._purge_step, self._drawn = None, None
