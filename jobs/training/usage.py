"""Which words a training uses: of this worker's samples since the last line, of all workers' samples in an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from spae.clip.pools import pool_problems
from spae.codebook.health import problems
from spae.codebook.usage import LayerUsage, WordUsage
from spae.collectives import Terms, world_size
from spae.model import SPAE
from spae.pyramid import TokenPyramid


@dataclass(frozen=True)
class EpochHealth:
    """How the codebook came through an epoch.

    Attributes:
        epoch: epochs that have ended.
        layers: word usage of each layer, over all workers.
        radii: |z| over the table's radius of each layer, at the epoch's last line.
        problems: a sentence for each sign of a sick codebook.
        pools: a sentence for each guided layer whose pools have an unusual size.
    """

    epoch: int
    layers: Sequence[LayerUsage]
    radii: Sequence[float]
    problems: Sequence[str]
    pools: Sequence[str]


class UsageMeter:
    """Counts the words of a training.

    Args:
        model: whose words are counted.
        samples: of the training split, an epoch.
        seen: samples that the run has seen, over all workers.
        thresholds: rho of the guided layers.
    """

    def __init__(self, model: SPAE, samples: int, seen: int, thresholds: Sequence[float] = ()) -> None:
        self._thresholds = thresholds
        self._shape = (len(model.codebook), model.depth, model.device)
        self._samples, self._epoch = samples, seen // samples
        self._recent, self._of_epoch = WordUsage(*self._shape), WordUsage(*self._shape)

    def update(self, tokens: TokenPyramid) -> None:
        """Count the words of a step on this worker's samples, without waiting for the device."""
        self._recent.update(tokens)

    def take_recent(self) -> list[LayerUsage]:
        """Usage of each layer on this worker since the last call."""
        usage = self._recent.compute()
        self._of_epoch.merge(self._recent)
        self._recent = WordUsage(*self._shape)
        return usage

    def end_epoch(self, seen: int, terms: Terms) -> EpochHealth | None:
        """The codebook's health, where an epoch has ended since the last call; every worker must call it.

        Args:
            seen: samples that the run has seen, over all workers.
            terms: what the last step told.
        """
        if seen // self._samples == self._epoch:
            return None
        if world_size() > 1:
            torch.distributed.all_reduce(self._of_epoch.counts)
        usage = self._of_epoch.compute()
        self._epoch, self._of_epoch = seen // self._samples, WordUsage(*self._shape)
        radii = [float(terms[f"latent_radius/{number}"]) for number in range(1, len(usage) + 1)]
        repeats = float(terms["repeats"]) if "repeats" in terms else None
        sizes = [float(terms[f"pool_size/{number}"]) for number in range(1, len(self._thresholds) + 1)]
        pools = pool_problems(sizes, self._thresholds, self._shape[0])
        return EpochHealth(self._epoch, usage, radii, problems(usage, radii, repeats), pools)
