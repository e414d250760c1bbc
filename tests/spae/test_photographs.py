"""The image preset on real colour photographs: one whole step, and a training that must rebuild them."""

import dataclasses

import pytest
import torch
from torchvision.models import resnet50

from spae.config import NetworkConfig
from spae.data import Batch
from spae.evaluation.metrics import psnr
from spae.model import SPAE, unit_pixels
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


@pytest.mark.slow
def test_photographs_are_rebuilt_from_words_and_swapped_words_rebuild_others():
    """Twelve crops of three photographs; the words of other crops must cost 6 dB, and new crops stay recognisable."""
    torch.manual_seed(0)
    grids = ((1, 1), (2, 2), (4, 4), (8, 8), (8, 8))
    config = reduced(base_channels=16, input_size=(64, 64), grids=grids)
    thresholds = config.objective.semantic_thresholds
    objective = dataclasses.replace(
        config.objective,
        semantic_weight=0.0,
        perceptual_weight=0.0,
        semantic_thresholds=thresholds,
        discriminator=dataclasses.replace(config.objective.discriminator, channel_multipliers=(2, 4, 4, 4)),
        adversarial_weight=0.001,
    )
    optimizer = dataclasses.replace(
        config.optimizer, learning_rate=2e-3, warmup_steps=50, cooldown_steps=200, ema_decay=0.98
    )
    config = dataclasses.replace(config, objective=objective, optimizer=optimizer, steps=400)
    pictures = crops(64, 8)
    seen, new = pictures[::2], pictures[1::2]
    state = TrainState.create(config, SPAE(config.model, tiny_spae.vocabulary(words=1_000, width=32)))
    for _ in range(config.steps):
        train_step(state, Objective(config.objective), batch_of(seen), config)
    model = state.average
    words = model.encode(seen)

    def quality(rebuilt, originals):
        return psnr(float((rebuilt - unit_pixels(originals)).square().mean()))

    rebuilt, swapped = model.decode(words), model.decode(words[torch.arange(12).roll(1)])
    told = [quality(rebuilt, seen), quality(swapped, seen), quality(model.decode(model.encode(new)), new)]
    print("seen, swapped, new crops: {:.2f}, {:.2f}, {:.2f} dB".format(*told))  # noqa: T201
    assert told[0] >= 24
    assert told[0] - told[1] >= 6
    assert told[2] > told[1] + 2
