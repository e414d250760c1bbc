import dataclasses

import torch

from spae.data.batch import Batch
from spae.training.objective import Guidance, Objective
from spae.training.state import TrainState
from spae.training.step import train_step
from tests import tiny_spae
from tests.benchmarks import plain


def test_the_reference_computes_what_the_library_computes():
    """Ids, loss and gradients, with pools of one word, so that no draw tells them apart."""
    thresholds = (1.0, 1.0)
    objective = dataclasses.replace(
        tiny_spae.TRAINING.objective, semantic_weight=1.0, semantic_thresholds=thresholds, prefix_probability=0.0
    )
    config = dataclasses.replace(
        tiny_spae.TRAINING,
        objective=objective,
        optimizer=dataclasses.replace(tiny_spae.TRAINING.optimizer, gradient_clip=None),
    )
    model, other = tiny_spae.model(), tiny_spae.model()
    pixels, semantics = torch.rand(6, 3, 16, 16), torch.randn(40, 5)
    features = torch.nn.functional.normalize(torch.randn(6, 5), dim=1)
    assert torch.equal(plain.encode(model, pixels), model.encode(pixels).flatten())
    state = TrainState.create(config, model)
    batch = Batch(pixels, torch.rand(6, 5), tuple("abcdef"), tuple(range(6)))
    result = train_step(state, Objective(objective, Guidance(lambda _: features, semantics)), batch, config)
    similarities = features @ semantics.T
    similarities = (similarities - similarities.min(1, keepdim=True).values) / (
        similarities.max(1, keepdim=True).values - similarities.min(1, keepdim=True).values
    )
    expected = plain.loss(other.train(), pixels, similarities, thresholds)
    expected.backward()
    terms = result.terms
    ours = terms["appearance"] + terms["dynamic_weight"] * terms["semantic"]
    torch.testing.assert_close(ours, expected.detach(), rtol=1e-4, atol=1e-6)
    for (name, mine), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-6, msg=name)
