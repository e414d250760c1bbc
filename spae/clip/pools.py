"""Candidate pools: which words suit an image (equations 4 and 6), and drawing targets from them (equation 7).

Pure functions of features; whose features they are is `spae/clip/features.py`'s business.
"""

from collections.abc import Sequence
from statistics import NormalDist

import torch
from torch import Tensor

from spae.codebook.precision import full_precision


def similarity(image: Tensor, semantics: Tensor) -> Tensor:
    """Equation 6: cosines of image features (B, E) and word semantics (K, E), min-max normalised per image, (B, K).

    The best word of an image has exactly 1, the worst 0; where all words are equal, all have 1.
    """
    with full_precision(image.device):
        return min_max(image.float() @ semantics.T)


def min_max(cosines: Tensor) -> Tensor:
    """The normalisation of equation 6, of cosines (B, K) that are known already."""
    low, high = cosines.aminmax(dim=1, keepdim=True)
    return torch.where(high == low, torch.ones_like(cosines), (cosines - low) / (high - low))


def pool_sizes(similarities: Tensor, thresholds: Sequence[float]) -> Tensor:
    """How many words (B, D') of similarities (B, K) reach each of the D' thresholds (equation 4); at least one."""
    return torch.stack([(similarities >= threshold).sum(1) for threshold in thresholds], dim=1)


def expected_pool_size(words: int, threshold: float) -> float:
    """Words in a pool if the cosines of `words` words were Gaussian (facts 8.8): 1.5, 4, 22, 95, 351 of 65,536.

    Their extremes are then about plus and minus the median of the largest of so many.
    """
    gaussian = NormalDist()
    extreme = gaussian.inv_cdf(0.5 ** (1 / words))
    return max(1.0, words * (1 - gaussian.cdf(extreme * (2 * threshold - 1))))


def pool_problems(sizes: Sequence[float], thresholds: Sequence[float], words: int) -> list[str]:
    """One sentence for each guided layer whose mean pool size is ten times off what its threshold lets expect."""
    found = []
    for layer, (size, threshold) in enumerate(zip(sizes, thresholds, strict=True), 1):
        expected = expected_pool_size(words, threshold)
        if not expected / 10 <= size <= expected * 10:
            found.append(
                f"layer {layer}: pools of {size:.1f} words at threshold {threshold:g}, where {expected:.1f} of {words} "
                "are usual; choose semantic_thresholds for this CLIP and vocabulary"
            )
    return found


def in_pool(similarities: Tensor, ids: Tensor, threshold: float) -> Tensor:
    """Which of the words int64 (B, n) lie in their image's pool, bool (B, n)."""
    return similarities.gather(1, ids) >= threshold


def sample_targets(similarities: Tensor, threshold: float, draws: Tensor) -> Tensor:
    """Word ids int64 (B, n), uniform over each image's pool {k: s >= threshold} (equations 4 and 7).

    Args:
        similarities: (B, K) from `similarity`.
        threshold: rho of the layer, in [0, 1].
        draws: (B, n) uniform in [0, 1); the same draws give the same ids on any device.

    The j-th member of a pool, in id order, is where the running count of members reaches j: no sort, no loop.
    """
    members = (similarities >= threshold).cumsum(1, dtype=torch.int32)
    sizes = members[:, -1:]
    chosen = (draws.double() * sizes).long().clamp(max=sizes - 1)
    return torch.searchsorted(members, (chosen + 1).int()).long()
