"""The objective of training: equation 9, the appearance loss and the semantic loss weighed against each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spae.clip.pools import in_pool, pool_sizes, sample_targets, similarity
from spae.codebook.variants import TrainableCodebook
from spae.collectives import Terms
from spae.config import ObjectiveConfig
from spae.data.batch import Batch
from spae.model import SPAE, TrainingPass
from spae.quantizers import Quantized
from spae.training.adversary import Adversary
from spae.training.losses import (
    codebook_loss,
    commitment_loss,
    entropy_loss,
    perceptual_loss,
    pixel_loss,
    semantic_loss,
)

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Guidance:
    """What judges words while training: CLIP's view of pictures and of the vocabulary's words."""

    image_features: Network
    """Pixels float (B, 3, *S) in [0, 1] -> features (B, E), without gradient; of clips the mean over frames."""
    semantics: Tensor
    """Features of the words (K, E), equation 5."""


class Objective:
    """What a step minimises. Owns no parameters.

    Args:
        config: the weights.
        guidance: what judges words; needed where semantic_weight > 0.
        perceptual: frozen classifier, pixels float (B, 3, H, W) in [0, 1] -> logits (B, classes), differentiable;
            needed where perceptual_weight > 0.
    """

    def __init__(
        self, config: ObjectiveConfig, guidance: Guidance | None = None, perceptual: Network | None = None
    ) -> None:
        if config.semantic_weight and guidance is None:
            raise ValueError("semantic_weight > 0 needs CLIP and a vocabulary with semantics; or set semantic_weight=0")
        if config.perceptual_weight and perceptual is None:
            raise ValueError("perceptual_weight > 0 needs a ResNet-50; give its weights, or set perceptual_weight=0")
        self.config = config
        self.guidance = guidance if config.semantic_weight else None
        self.perceptual = perceptual if config.perceptual_weight else None

    @property
    def guided_layers(self) -> int:
        """Layers that the semantic loss guides."""
        return len(self.config.semantic_thresholds) if self.guidance else 0

    def appearance(
        self,
        model: SPAE,
        forward: TrainingPass,
        pixels: Tensor,
        adversary: Adversary | None = None,
        judged_frames: Sequence[int] | None = None,
    ) -> Terms:
        """The terms of equation 8 and their weighted sum `appearance`; pixels (B, 3, *S) in [0, 1].

        The perceptual network sees these frames of clips, each as a picture; without them pixels are pictures.
        """
        reconstruction, commitment = forward.reconstruction, self._commitment(model, forward)
        terms = {"pixel": pixel_loss(reconstruction, pixels), "commitment": commitment}
        total = terms["pixel"] + self.config.commitment_weight * commitment
        if self.perceptual is not None:
            judged = [_frames(one, judged_frames) for one in (reconstruction, pixels)]
            terms["perceptual"] = perceptual_loss(*[self.perceptual(one) for one in judged])
            total = total + self.config.perceptual_weight * terms["perceptual"]
        if adversary is not None:
            terms["adversarial"] = adversary.adversarial_loss(reconstruction)
            total = total + self.config.adversarial_weight * terms["adversarial"]
        return {**terms, "appearance": total}

    def _commitment(self, model: SPAE, forward: TrainingPass) -> Tensor:
        """Commitment in the configured reduction (facts 8.7)."""
        total = commitment_loss(forward.latents, forward.quantized.layer_estimates, _positions(model))
        if self.config.commitment_reduction == "element":
            return total / forward.latents.shape[1]
        return total / model.codebook.radius_squared

    def codebook_terms(self, model: SPAE, forward: TrainingPass, weight: float = 1.0) -> Terms:
        """The terms that move a trainable table, and their weighted sum `codebook_total`; nothing where none counts.

        `weight` is this rank's `rank_weight`.
        """
        z, terms = forward.latents, Terms()
        if self.config.codebook_weight:
            drawn = codebook_loss(z, forward.quantized.layer_estimates, _positions(model)) / z.shape[1]
            terms |= {"codebook": drawn, "codebook_total": self.config.codebook_weight * drawn}
        if self.config.entropy_weight and isinstance(model.codebook, TrainableCodebook):
            latents = z.flatten(2).transpose(1, 2).flatten(0, 1)
            terms["entropy"] = entropy_loss(latents, model.codebook.rows(), weight=weight)
            weighted = self.config.entropy_weight * terms["entropy"]
            terms["codebook_total"] = terms.get("codebook_total", 0) + weighted
        return terms

    def semantic(self, model: SPAE, batch: Batch, pixels: Tensor, quantized: Quantized) -> Terms:
        """The semantic loss, with each guided layer's mean pool size and how often its word lies in the pool.

        ValueError where the features are of other words than the model's.
        """
        targets, pools = self._draw_targets(model, batch, pixels, quantized)
        loss = semantic_loss(model.codebook, quantized.layer_inputs[: self.guided_layers], targets)
        return {"semantic": loss, **pools}

    @torch.inference_mode()
    def _draw_targets(
        self, model: SPAE, batch: Batch, pixels: Tensor, quantized: Quantized
    ) -> tuple[list[Tensor], Terms]:
        assert self.guidance is not None
        if len(self.guidance.semantics) != len(model.codebook):
            raise ValueError(
                f"the guidance has features of {len(self.guidance.semantics)} words, and the model's codebook holds "
                f"{len(model.codebook)}; give those of model.vocabulary"
            )
        scores = similarity(self.guidance.image_features(pixels), self.guidance.semantics)
        thresholds, sizes = self.config.semantic_thresholds, model.config.layer_sizes[: self.guided_layers]
        draws = batch.draws.split(list(sizes), 1)
        targets = [sample_targets(scores, rho, drawn) for rho, drawn in zip(thresholds, draws, strict=True)]
        mean_sizes, pools = pool_sizes(scores, thresholds).float().mean(0), {}
        for layer, threshold in enumerate(thresholds):
            hits = in_pool(scores, quantized.tokens.layers[layer].flatten(1), threshold)
            pools[f"pool_size/{layer + 1}"] = mean_sizes[layer]
            pools[f"pool_hit/{layer + 1}"] = hits.float().mean()
        return targets, pools


def _frames(pixels: Tensor, chosen: Sequence[int] | None) -> Tensor:
    """Some frames of clips (B, 3, T, H, W) as pictures (B x n, 3, H, W); pictures as they are."""
    return pixels if chosen is None else pixels[:, :, list(chosen)].movedim(2, 1).flatten(0, 1)


def _positions(model: SPAE) -> list[Tensor]:
    return [model.quantizer.layer_positions(layer) for layer in range(model.depth)]
