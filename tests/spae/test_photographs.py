"""The image preset on real colour photographs: one whole step with every term."""

import dataclasses

import torch
from torchvision.models import resnet50

from spae.config import NetworkConfig
from spae.data import Batch
from spae.model import SPAE
from spae.objective import Guidance, Objective
from spae.presets import PRESETS
from spae.pretrained import PerceptualNetwork
from spae.training import TrainState, train_step
from tests import tiny_spae
from tests.photographs import crops


def reduced(**model):
    """image-128 with narrow networks."""
    preset = PRESETS["image-128"]
    network = NetworkConfig(base_channels=model.pop("base_channels", 8))
    discriminator = dataclasses.replace(preset.objective.discriminator, base_channels=4)
    return dataclasses.replace(
        preset,
        model=dataclasses.replace(preset.model, network=network, embedding_width=32, **model),
        objective=dataclasses.replace(preset.objective, discriminator=discriminator),
    )


def batch_of(pixels, draws=0):
    numbers = range(len(pixels))
    return Batch(pixels, torch.rand(len(pixels), draws), tuple(map(str, numbers)), tuple(numbers))


def test_the_image_preset_takes_one_whole_step_with_every_term():
    torch.manual_seed(0)
    config = reduced()
    vocabulary = tiny_spae.vocabulary(words=300, width=32)
    semantics = torch.nn.functional.normalize(torch.randn(300, 6), dim=1)
    guidance = Guidance(
        lambda pixels: torch.nn.functional.normalize(pixels.mean((2, 3)).repeat(1, 2), dim=1), semantics
    )
    perceptual = PerceptualNetwork(resnet50(num_classes=10).state_dict())
    state = TrainState.create(config, SPAE(config.model, vocabulary))
    batch = batch_of(crops(128, 1), draws=sum(config.model.layer_sizes[:5]))
    result = train_step(state, Objective(config.objective, guidance, perceptual), batch, config)
    assert set(result.terms) >= {"pixel", "commitment", "adversarial", "perceptual", "semantic", "discriminator"}
    assert set(result.terms) >= {"gradient_penalty", "lecam", "dynamic_weight", "pool_hit/5", "latent_radius/6"}
    assert all(bool(value.isfinite()) for value in result.terms.values())
    assert float(result.terms["skipped"]) == 0
    assert result.quantized.tokens.flatten().shape == (3, 597)
