import math

import numpy as np
import pytest
import torch

from spae.codebook.frozen import Codebook
from spae.quantizers import PyramidQuantizer
from spae.training.losses import commitment_loss, dynamic_weight, pixel_loss, semantic_loss
from tests import reference

GRIDS = [(1, 1), (2, 2), (4, 4), (4, 4)]


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(0)
    codebook = Codebook(torch.randn(40, 5, generator=generator), temperature=0.5)
    quantizer = PyramidQuantizer(codebook, GRIDS)
    return codebook, quantizer, torch.randn(3, 5, 4, 4, generator=generator)


def test_pixel_loss_is_the_mean_over_all_elements():
    a, b = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    expected = np.mean((a.double().numpy() - b.double().numpy()) ** 2)
    assert float(pixel_loss(a, b)) == pytest.approx(expected, rel=1e-6)


def test_commitment_equals_the_reference(parts):
    codebook, quantizer, z = parts
    where = [quantizer.layer_positions(layer) for layer in range(4)]
    loss = commitment_loss(z, quantizer(z).layer_estimates, where)
    expected = reference.commitment(z.double().numpy(), codebook.embeddings.double().numpy(), GRIDS)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_the_gradient_of_commitment_pulls_covered_positions_alone(parts):
    _, quantizer, z = parts
    z = z.requires_grad_()
    where = [quantizer.layer_positions(layer) for layer in range(2)]
    estimates = quantizer(z).layer_estimates[:2]
    commitment_loss(z, estimates, where).backward()
    expected = torch.zeros(3, 5, 16)
    batch = 3
    for layer, estimate in enumerate(estimates):
        pull = 2 * (z.detach().flatten(2)[:, :, where[layer]] - estimate.detach().transpose(1, 2))
        shares = [1 / (batch * sum(len(w) for w in where[: later + 1])) for later in range(layer, 2)]
        expected[:, :, where[layer]] = pull * sum(shares)
    torch.testing.assert_close(z.grad.flatten(2), expected)


def test_semantic_loss_is_the_mean_over_positions_then_over_layers(parts):
    codebook, quantizer, z = parts
    inputs = quantizer(z).layer_inputs[:2]
    targets = [torch.randint(0, 40, one.shape[:2]) for one in inputs]
    table = codebook.embeddings.double().numpy()
    layers = [
        np.mean(
            [
                reference.word_cross_entropy(one[b, n].double().numpy(), table, int(target[b, n]), 0.5)
                for b in range(3)
                for n in range(one.shape[1])
            ]
        )
        for one, target in zip(inputs, targets, strict=True)
    ]
    assert float(semantic_loss(codebook, inputs, targets)) == pytest.approx(np.mean(layers), rel=1e-5)


def test_the_semantic_gradient_reaches_the_latents_and_not_the_table(parts):
    codebook, quantizer, z = parts
    z = z.requires_grad_()
    inputs = quantizer(z).layer_inputs[:2]
    semantic_loss(codebook, inputs, [torch.zeros(one.shape[:2]).long() for one in inputs]).backward()
    guided = z.grad.abs().sum((0, 1)).flatten() > 0
    expected = torch.cat([quantizer.layer_positions(0), quantizer.layer_positions(1)])
    assert sorted(guided.nonzero().flatten().tolist()) == sorted(expected.tolist())
    assert codebook.embeddings.grad is None


def test_dynamic_weight_is_the_ratio_with_a_floor():
    appearance, semantic = torch.tensor(0.3, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    weight = dynamic_weight(appearance, semantic, words=512)
    assert float(weight) == pytest.approx(0.15)
    assert not weight.requires_grad
    floor = 0.05 * math.log(512)
    assert float(dynamic_weight(appearance, torch.tensor(0.0), words=512)) == pytest.approx(0.3 / floor, rel=1e-6)
