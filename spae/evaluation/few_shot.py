"""Few-shot classification by words alone: which class's example words lie closest, no language model asked.

A stand-in for the in-context classification of section 5.1: it tells how much of a class the words carry, not what a
language model makes of them.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Episodes:
    """Which episodes are drawn."""

    ways: int = 5
    """Classes an episode."""
    shots: int = 1
    """Examples a class, from the support split."""
    queries: int = 5
    """Pictures to classify an episode, from the scored split."""
    number: int = 600
    seed: int = 0


@dataclass(frozen=True)
class FewShotScore:
    """Accuracy over episodes with its 95% interval, mean +- 1.96 standard errors."""

    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class LabelledFeatures:
    """Features float (N, C), such as the mean embedding of the first words, and labels int64 (N,)."""

    features: Tensor
    labels: Tensor


def few_shot_accuracy(support: LabelledFeatures, scored: LabelledFeatures, episodes: Episodes) -> FewShotScore:
    """Nearest class mean by cosine, over episodes that depend on the seed and the labels alone.

    Features are centred by the support split's mean first. ValueError where a split has too few classes or examples.
    """
    classes = sorted(set(support.labels.tolist()) & set(scored.labels.tolist()))
    if len(classes) < episodes.ways:
        raise ValueError(f"{len(classes)} classes are in both splits, fewer than ways={episodes.ways}")
    centre = support.features.mean(0)
    known, asked = (F.normalize(one.features - centre, dim=1) for one in (support, scored))
    members = {label: (support.labels == label).nonzero()[:, 0] for label in classes}
    queries = {label: (scored.labels == label).nonzero()[:, 0] for label in classes}
    if small := [label for label in classes if len(members[label]) < episodes.shots]:
        raise ValueError(f"class {small[0]} has {len(members[small[0]])} examples, fewer than shots={episodes.shots}")
    generator = torch.Generator().manual_seed(episodes.seed)
    results = []
    for _ in range(episodes.number):
        chosen = [classes[i] for i in torch.randperm(len(classes), generator=generator)[: episodes.ways].tolist()]
        means = torch.stack([known[_draw(members[label], episodes.shots, generator)].mean(0) for label in chosen])
        truth = torch.randint(episodes.ways, (episodes.queries,), generator=generator)
        rows = torch.cat([_draw(queries[chosen[way]], 1, generator) for way in truth.tolist()])
        results.append(_share_right(asked[rows] @ F.normalize(means, dim=1).T, truth))
    scores = torch.tensor(results, dtype=torch.float64)
    accuracy, error = float(scores.mean()), float(scores.std()) / math.sqrt(len(scores))
    return FewShotScore(accuracy, accuracy - 1.96 * error, accuracy + 1.96 * error)


def _draw(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:count]]


def _share_right(scores: Tensor, truth: Tensor) -> float:
    """Share of rows whose class has the highest score; a tie of n classes counts 1/n."""
    best = scores >= scores.max(1, keepdim=True).values - 1e-6
    right = best.gather(1, truth[:, None])[:, 0] / best.sum(1)
    return float(right.mean())
