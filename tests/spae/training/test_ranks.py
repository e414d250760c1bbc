"""A step of several ranks, which divide the batch or not, against that of one on the same batch, with every term."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from spae.ablations import ABLATIONS
from spae.config import DiscriminatorConfig
from spae.data.loader import BatchPlan, batches
from spae.data.records import load_index
from spae.model import SPAE
from spae.training.objective import Guidance, Objective
from spae.training.replicas import ReplicaError, check_replicas
from spae.training.state import TrainState
from spae.training.step import train_step
from tests import tiny_spae
from tests.ranks import on_ranks
from tests.tiny_shards import samples, write_split

pytestmark = pytest.mark.slow

EVERY = dataclasses.replace(
    tiny_spae.TRAINING,
    objective=dataclasses.replace(
        tiny_spae.TRAINING.objective,
        adversarial_weight=0.1,
        perceptual_weight=0.1,
        semantic_weight=1.0,
        discriminator=DiscriminatorConfig(base_channels=4, channel_multipliers=(2, 2), lecam_weight=0.1),
    ),
    optimizer=dataclasses.replace(tiny_spae.TRAINING.optimizer, gradient_clip=None),
)
_VQ = ABLATIONS["vq"](tiny_spae.TRAINING)
CONFIGS = {
    "frozen": EVERY,
    "channel": dataclasses.replace(EVERY, model=dataclasses.replace(EVERY.model, latent_statistics="channel")),
    "learned": dataclasses.replace(_VQ, model=dataclasses.replace(_VQ.model, table_size=30, embedding_width=6)),
}
"""learned: with the terms that move a table, codebook and entropy."""


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Twenty pictures and two samples that are none, in two shards."""
    found = samples(22)
    found[3], found[9] = (found[3][0], b"broken", 1), (found[9][0], b"", 1)
    return write_split(tmp_path_factory.mktemp("split") / "train", [found[:9], found[9:]])


def _features(pixels):
    return torch.nn.functional.normalize(pixels.unflatten(2, (2, 8)).mean((3, 4)).flatten(1), dim=1)


def _logits(weight, pixels):
    return (pixels.flatten(1) @ weight).tanh()


def _judged(config):
    generator = torch.Generator().manual_seed(1)
    words = len(tiny_spae.vocabulary())
    semantics = torch.nn.functional.normalize(torch.randn(words, 6, generator=generator), dim=1)
    weight = torch.randn(3 * 16 * 16, 10, generator=generator) / 28
    return Objective(config.objective, Guidance(_features, semantics), functools.partial(_logits, weight))


def step_on(rank, ranks, split, name):
    """Gradients of both networks, terms, and what is remembered of the batch, after one step of a rank."""
    config = CONFIGS[name]
    draws = sum(config.model.layer_sizes[: len(config.objective.semantic_thresholds)])
    plan = BatchPlan(
        index=load_index(split), data=config.data, input_size=(16, 16), draws=draws, seed=0, rank=rank, ranks=ranks
    )
    torch.manual_seed(0)
    state = TrainState.create(config, SPAE(config.model, tiny_spae.vocabulary()))
    parameters = [*state.model.parameters()]
    if state.adversary:
        state.adversary.averages = torch.tensor([0.05, -0.05])
        parameters += state.adversary.discriminator.parameters()
    terms = train_step(state, _judged(config), next(batches(plan)), config).terms
    gradients = torch.cat([one.grad.flatten() for one in parameters]).numpy()
    remembered = [state.model.statistics.mean.flatten(), state.model.statistics.variance.flatten()]
    remembered += [state.adversary.averages] if state.adversary else []
    return gradients, {key: float(value) for key, value in terms.items()}, torch.cat(remembered).numpy()


@pytest.mark.parametrize(("name", "ranks"), [("frozen", 2), ("frozen", 5), ("channel", 3), ("learned", 3)])
def test_the_gradient_of_any_number_of_ranks_is_that_of_one(split, name, ranks):
    alone, terms, remembered = step_on(0, 1, split, name)
    for gradients, told, kept in on_ranks(step_on, ranks, split, name, ranks=ranks):
        assert np.linalg.norm(gradients - alone) <= 1e-5 * np.linalg.norm(alone)
        np.testing.assert_allclose(kept, remembered, rtol=1e-5, atol=1e-6)
        for key in (key for key in told if not key.startswith("latent_")):  # those are means of the ranks' norms
            assert told[key] == pytest.approx(terms[key], rel=1e-4, abs=1e-6), key


def _compare(rank, damaged):
    """What the comparison says before and after one bit of a weight flips on a rank."""
    torch.manual_seed(0)
    state = TrainState.create(EVERY, SPAE(EVERY.model, tiny_spae.vocabulary()))
    check_replicas(state)
    if rank == damaged:
        state.average.decoder.head.weight.view(torch.int32)[0, 0, 0, 0] ^= 1 << 20
    try:
        check_replicas(state)
    except ReplicaError as error:
        return str(error)
    return ""


def test_a_flipped_bit_on_one_rank_is_named_on_all():
    told = on_ranks(_compare, 1, ranks=3)
    assert len(set(told)) == 1
    assert told[0].startswith("at step 0 ranks [1] of 3 hold another average than the others")
