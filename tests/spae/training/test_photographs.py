"""The image preset on real colour photographs: one whole step with every term, and a dozen crops learnt by heart."""

import dataclasses

import pytest
import torch
from torchvision.models import resnet50

from spae.config import NetworkConfig, OptimizerConfig
from spae.data.batch import Batch
from spae.evaluation.pixels import psnr
from spae.judges.resnet import PerceptualNetwork
from spae.model import SPAE, unit_pixels
from spae.presets import PRESETS
from spae.training.losses import pixel_loss
from spae.training.objective import Guidance, Objective
from spae.training.state import TrainState
from spae.training.step import train_step
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


def learning():
    """image-128 at half its sides, with narrow networks and the terms that a dozen pictures can bear."""
    preset = reduced(base_channels=16, input_size=(64, 64), grids=((1, 1), (2, 2), (4, 4), (8, 8), (8, 8)))
    network = NetworkConfig(base_channels=16, residual_blocks=1, middle_blocks=1)
    alone = {"semantic_weight": 0.0, "adversarial_weight": 0.0, "perceptual_weight": 0.0, "semantic_thresholds": ()}
    return dataclasses.replace(
        preset,
        model=dataclasses.replace(preset.model, network=network, embedding_width=16),
        objective=dataclasses.replace(preset.objective, **alone),
        optimizer=OptimizerConfig(  # without Adam's momentum the same 300 steps reach 18 dB
            learning_rate=4e-3,
            betas=(0.9, 0.99),
            warmup_steps=60,
            cooldown_steps=175,
            gradient_clip=1.0,
            ema_decay=0.98,
        ),
        data=dataclasses.replace(preset.data, batch_size=12),
        precision="bfloat16",
        steps=350,
    )


@pytest.mark.slow
def test_a_dozen_crops_are_learnt_and_their_words_matter(record_property):
    torch.manual_seed(0)
    config, pixels = learning(), crops(64, 8)
    train, held_out = pixels.unflatten(0, (3, 8)).split(4, 1)
    train, held_out = train.flatten(0, 1), held_out.flatten(0, 1)
    state = TrainState.create(config, SPAE(config.model, tiny_spae.vocabulary(words=1_000, width=16)))
    objective, batch = Objective(config.objective), batch_of(train)
    for _ in range(config.steps):
        train_step(state, objective, batch, config)
    model = state.average.eval()
    words = model.encode(train)

    def quality(pyramid, originals):
        return psnr(float(pixel_loss(model.decode(pyramid), unit_pixels(originals))))

    figures = {
        "training": quality(words, train),
        "held out": quality(model.encode(held_out), held_out),
        "words of the next": quality(words, train.roll(1, 0)),
    }
    for name, value in figures.items():
        record_property(name, value)
    print({name: f"{value:.2f} dB" for name, value in figures.items()})  # noqa: T201 # seen with pytest -s
    assert figures["training"] >= 24
    assert figures["training"] - figures["words of the next"] >= 6
