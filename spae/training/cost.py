"""What a training step costs, counted on meta devices: nothing is computed and no memory taken."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spae.config import TrainConfig
from spae.networks.autoencoder import Decoder, Encoder
from spae.networks.discriminator import Discriminator
from spae.training.losses import gradient_penalty

_COPIES = 5  # weight, gradient, two moments of Adam, moving average; the discriminator has no average


@dataclass(frozen=True)
class StepCost:
    """Of one picture or clip, the frozen judges left out.

    Attributes:
        parameters: of encoder and decoder.
        discriminator: parameters of the discriminator, 0 without one.
        operations: floating-point ones of a step, forward and backward, an addition and a product being two.
        activations: bytes that the tokenizer's and the discriminator's backward passes keep, in float32.
    """

    parameters: int
    discriminator: int
    operations: float
    activations: int

    @property
    def state(self) -> int:
        """Bytes of weights, gradients, optimizers and average, whatever the batch."""
        return 4 * (_COPIES * self.parameters + (_COPIES - 1) * self.discriminator)


def step_cost(config: TrainConfig, words: int) -> StepCost:
    """Count a step of a configuration with a vocabulary of so many words."""
    objective, model = config.objective, config.model
    with torch.device("meta"):
        networks = nn.ModuleList([Encoder(model), Decoder(model)])
        adversary = Discriminator(objective.discriminator, model.input_size) if objective.adversarial_weight else None
        pixels = torch.rand(1, 3, *model.input_size)
    kept = _Kept()
    with FlopCounterMode(display=False) as counter, kept.hooks():
        latents = networks[0](pixels)
        reconstruction = networks[1](latents)
        loss = reconstruction.sum() + (adversary(reconstruction).sum() if adversary else 0)
        loss.backward()
        if adversary:
            _judge(adversary, pixels, reconstruction.detach())
    operations = float(counter.get_total_flops())
    if adversary and objective.discriminator.gradient_penalty:
        with FlopCounterMode(display=False) as counter:
            real = pixels.detach().requires_grad_().clone()  # the counter's hooks bear no leaf
            gradient_penalty(adversary(real), real).backward()
        operations += counter.get_total_flops() / objective.discriminator.gradient_penalty_every
    guided = len(objective.semantic_thresholds) if objective.semantic_weight else 0
    products = sum(model.layer_sizes) + 2 * sum(model.layer_sizes[:guided])  # the search; the loss and its gradient
    operations += 2.0 * products * words * model.embedding_width
    return StepCost(_count(networks), _count(adversary) if adversary else 0, operations, kept.bytes)


def _judge(adversary: Discriminator, real: Tensor, fake: Tensor) -> None:
    (adversary(real).sum() + adversary(fake).sum()).backward()


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class _Kept:
    """Bytes of the tensors that backward passes keep, each storage once, parameters left out."""

    def __init__(self) -> None:
        self._storages: dict[int, torch.UntypedStorage] = {}

    def hooks(self) -> torch.autograd.graph.saved_tensors_hooks:
        def pack(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, nn.Parameter):
                storage = tensor.untyped_storage()
                self._storages[storage._cdata] = storage
            return tensor

        return torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self._storages.values())
