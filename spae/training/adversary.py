"""The opponent of the tokenizer in training: a discriminator, its optimizer and LeCAM's running averages.

Parameters, averages and losses are float32; the products inside the discriminator are what the caller's autocast
region makes them, which on a GPU is bfloat16 where the run asks for it.
"""

from typing import Any

import torch
from torch import Tensor, nn

from spae.collectives import Terms, average_gradients, mean_over_ranks
from spae.config import DiscriminatorConfig
from spae.networks.discriminator import Discriminator
from spae.training.losses import discriminator_loss, generator_loss, gradient_penalty, lecam_loss


class Adversary:
    """Part of the training state.

    Args:
        config: the discriminator's shape and training.
        input_size: *S of the pictures.
        betas: Adam's, those of the tokenizer.
        device: where it lives.
    """

    def __init__(
        self,
        config: DiscriminatorConfig,
        input_size: tuple[int, ...],
        betas: tuple[float, float],
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.discriminator = Discriminator(config, input_size).to(device)
        self.optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=config.learning_rate, betas=betas, fused=True
        )
        self.averages = torch.zeros(2, device=device)

    def adversarial_loss(self, reconstruction: Tensor) -> Tensor:
        """The tokenizer's adversarial loss (L_GAN of equation 8), without gradient to the discriminator."""
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        logits = torch.func.functional_call(self.discriminator, frozen, (reconstruction.float(),))
        return generator_loss(logits.float())

    def losses(self, pixels: Tensor, reconstruction: Tensor, step: int, weight: float = 1.0) -> tuple[Tensor, Terms]:
        """The discriminator's loss on real pixels and reconstructions (B, 3, *S), and its terms.

        R1 is computed at every `gradient_penalty_every`-th step and then counts that often. LeCAM sees the means of the
        global batch, to which this rank's count by its `rank_weight`; its averages move here.
        """
        penalised = self.config.gradient_penalty > 0 and step % self.config.gradient_penalty_every == 0
        pixels = pixels.detach().float().requires_grad_(penalised)
        real, fake = self.discriminator(pixels).float(), self.discriminator(reconstruction.detach().float()).float()
        terms: Terms = {"discriminator": discriminator_loss(real, fake)}
        loss = terms["discriminator"]
        if penalised:
            terms["gradient_penalty"] = gradient_penalty(real, pixels)
            loss = loss + self.config.gradient_penalty * self.config.gradient_penalty_every * terms["gradient_penalty"]
        if self.config.lecam_weight:
            means = mean_over_ranks(weight * torch.stack([real.mean(), fake.mean()]))
            terms["lecam"] = lecam_loss(means[:1], means[1:], self.averages)
            loss = loss + self.config.lecam_weight * terms["lecam"]
            moved = self.averages.lerp(means.detach(), 1 - self.config.lecam_decay)
            self.averages = torch.where(moved.isfinite(), moved, self.averages)
        terms |= {"logit/real": real.mean(), "logit/fake": fake.mean()}
        return loss, terms

    def step(self, loss: Tensor, rate: float, skip: Tensor) -> None:
        """One update at `rate` times the peak learning rate, none where `skip` is 1; both are equal on every rank."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.discriminator.parameters())
        gradients = [one.grad for one in self.discriminator.parameters() if one.grad is not None]
        guarded_step(self.optimizer, skip | ~nn.utils.get_total_norm(gradients).isfinite())

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averages": self.averages,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averages = state["averages"].to(self.averages.device)


def guarded_step(optimizer: torch.optim.Adam, skip: Tensor) -> None:
    """`optimizer.step()`, or nothing where `skip` is true, decided on the device as torch's GradScaler does.

    The optimizer must be fused.
    """
    vars(optimizer)["found_inf"] = skip.float()
    optimizer.step()
