import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from spae.model import SPAE
from spae.presets import PRESETS
from spae.training.cost import step_cost
from spae.training.state import TrainState
from tests import tiny_spae
from tests.spae.training.test_terms import CONFIG


def test_parameters_are_those_of_the_state():
    cost, state = step_cost(CONFIG, 40), TrainState.create(CONFIG, SPAE(CONFIG.model, tiny_spae.vocabulary()))
    assert cost.parameters == sum(one.numel() for one in state.model.parameters())
    assert cost.discriminator == sum(one.numel() for one in state.adversary.discriminator.parameters())
    assert cost.state == 4 * (5 * cost.parameters + 4 * cost.discriminator)


def test_operations_are_those_that_torch_counts_in_a_real_pass():
    """Without a discriminator: the networks' passes, and the products with the words, of which this one guides none."""
    config = tiny_spae.TRAINING
    model = SPAE(config.model, tiny_spae.vocabulary())
    with FlopCounterMode(display=False) as counted:
        model.reconstruct(model.encoder(torch.rand(1, 3, 16, 16))).sum().backward()
    words = 2 * sum(config.model.layer_sizes) * 40 * 12
    assert step_cost(config, 40).operations == counted.get_total_flops() + words


def test_what_is_weighed_costs_and_a_lazy_penalty_costs_less():
    objective = dataclasses.replace(CONFIG.objective, semantic_weight=1.0)
    lazy = dataclasses.replace(
        objective, discriminator=dataclasses.replace(objective.discriminator, gradient_penalty_every=16)
    )
    costs = [
        step_cost(dataclasses.replace(CONFIG, objective=one), 40).operations
        for one in (tiny_spae.TRAINING.objective, CONFIG.objective, lazy, objective)
    ]
    assert costs[0] < costs[1]
    assert costs[2] < costs[3]
    assert costs[1] < costs[3]


def test_the_paper_size_is_counted_without_its_memory():
    cost = step_cost(PRESETS["image-128"], 65_000)
    assert cost.parameters / 1e6 == pytest.approx(59.4, abs=0.05)
    assert cost.activations > 100e6
    assert all(one.device.type == "cpu" for one in nn.Linear(2, 2).parameters()), "no default device is left behind"
