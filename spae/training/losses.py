"""Losses of equations 7 to 9: pure functions, tensors in, scalar out.

Reductions are those of facts 8.8: pixels by element, commitment and semantics by position, then over layers.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from spae.codebook.frozen import Codebook
from spae.collectives import mean_over_ranks

_BLOCK_SCORES = 16_777_216  # 64 MB in fp32
_FLOOR = 1e-5  # MaskGIT's, in the logarithm of the mean: at a word that nobody chose its slope would be infinite


def pixel_loss(reconstruction: Tensor, pixels: Tensor) -> Tensor:
    """Mean squared error over all elements, both (B, 3, *S) with images in [0, 1] (first term of equation 8)."""
    return F.mse_loss(reconstruction.float(), pixels.float())


def commitment_loss(latents: Tensor, estimates: Sequence[Tensor], positions: Sequence[Tensor]) -> Tensor:
    """Sum over layers of the mean, over covered positions, of |z - sg(estimate)|^2 (second term of equation 8).

    Args:
        latents: z as (B, C, *S).
        estimates: after each layer, at its positions, (B, n_l, C).
        positions: raster positions of each layer (n_l,).

    The estimate of a position stands until a later layer renews it. Divide by R^2 for the relative form (facts 8.7), by
    C for the element mean.
    """
    return _distances(latents, [estimate.detach() for estimate in estimates], positions)


def codebook_loss(latents: Tensor, estimates: Sequence[Tensor], positions: Sequence[Tensor]) -> Tensor:
    """Commitment with roles exchanged, for a trainable table: it draws the estimates to the latents.

    VQ-VAE's |sg(z) - e|^2 where there is one layer; arguments and reduction as in `commitment_loss`.
    """
    return _distances(latents.detach(), estimates, positions)


def _distances(latents: Tensor, estimates: Sequence[Tensor], positions: Sequence[Tensor]) -> Tensor:
    z = latents.flatten(2).transpose(1, 2)
    squared = z.new_zeros(z.shape[:2])
    covered = torch.zeros(z.shape[1], dtype=torch.bool, device=z.device)
    total = z.new_zeros(())
    for estimate, where in zip(estimates, positions, strict=True):
        error = (z[:, where] - estimate).square().sum(-1)
        squared = squared.index_copy(1, where, error)
        covered = covered.index_fill(0, where, True)
        total = total + squared.sum() / (covered.sum() * len(z))
    return total


def semantic_loss(codebook: Codebook, layer_inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Word cross-entropy of z_l against sampled words, mean over positions, equal mean over guided layers (equation 7).

    Args:
        codebook: the frozen words with their temperature.
        layer_inputs: z_l of the guided layers, (B, n_l, C).
        targets: word ids drawn from the layers' candidate pools, (B, n_l).
    """
    sizes = [one.shape[1] for one in targets]
    queries = torch.cat([one.flatten(0, 1) for one in layer_inputs])
    losses = codebook.cross_entropy(queries, torch.cat([one.flatten() for one in targets]))
    batch = targets[0].shape[0]
    return torch.stack([part.mean() for part in losses.split([batch * size for size in sizes])]).mean()


def dynamic_weight(appearance: Tensor, semantic: Tensor, words: int) -> Tensor:
    """w = sg(L_app) / max(sg(L_sem), 0.05 ln K) (equation 9, facts 8.9): brings the semantic loss to the other's size.

    Both losses are averaged over ranks first. The floor keeps w finite as the semantic loss vanishes.
    """
    floor = 0.05 * torch.log(torch.tensor(float(words), device=semantic.device))
    return appearance.detach() / torch.maximum(semantic.detach(), floor)


def generator_loss(fake: Tensor) -> Tensor:
    """Non-saturating loss of the tokenizer, from the logits (B,) of its reconstructions: -log sigmoid, their mean."""
    return F.softplus(-fake).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Binary cross-entropy of the logits (B,) of real pictures and of reconstructions, each averaged, then added."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def gradient_penalty(real: Tensor, pixels: Tensor) -> Tensor:
    """R1 (Mescheder et al., 2018): mean over pictures of |d logit / d pixels|^2; `pixels` must require gradient."""
    (gradient,) = torch.autograd.grad(real.sum(), pixels, create_graph=True)
    return gradient.flatten(1).square().sum(1).mean()


def lecam_loss(real: Tensor, fake: Tensor, averages: Tensor) -> Tensor:
    """LeCAM as MAGVIT has it: relu(mean real - average fake)^2 + relu(average real - mean fake)^2.

    Args:
        real: logits (B,) of real pictures.
        fake: logits (B,) of reconstructions.
        averages: running averages of the two means, (2,), real first.
    """
    return F.relu(real.mean() - averages[1]).square() + F.relu(averages[0] - fake.mean()).square()


def perceptual_loss(reconstruction: Tensor, pixels: Tensor) -> Tensor:
    """Mean squared error of a classifier's logits (B, classes) of the two (facts 8.11)."""
    return F.mse_loss(reconstruction.float(), pixels.float())


def entropy_loss(latents: Tensor, rows: Tensor, temperature: float = 0.01, weight: float = 1.0) -> Tensor:
    """MaskGIT's entropy loss on softmax(-|z - e|^2 / temperature): mean entropy of a latent minus that of the mean.

    The mean is that of the latents of all ranks, so that the weighted mean of their losses is that of the global batch.

    Args:
        latents: (N, C).
        rows: the table (K, C); gradients go to both.
        temperature: 0.01 in MaskGIT.
        weight: this rank's `rank_weight`.

    Blocks of latents are computed again in the backward pass, so that N x K scores never exist together.
    """
    entropy, mean = latents.new_zeros(()), latents.new_zeros(len(rows))
    for block in latents.split(max(1, _BLOCK_SCORES // len(rows))):
        sure, shares = checkpoint(_entropies, block, rows, temperature, use_reentrant=False)
        entropy, mean = entropy + sure, mean + shares
    mean = mean_over_ranks(weight * mean / len(latents))
    return entropy / len(latents) + (mean * (mean + _FLOOR).log()).sum()


def _entropies(latents: Tensor, rows: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Sum of the entropies of softmax(-|z - e|^2 / temperature) and of the probabilities, over the latents."""
    scores = torch.addmm(rows.square().sum(1), latents, rows.T, beta=-1, alpha=2) / temperature
    logs = scores.log_softmax(1)
    return -(logs.exp() * logs).sum(), logs.exp().sum(0)
