import itertools
import math

import numpy as np
import pytest
import torch

from spae.codebook.frozen import Codebook
from spae.pyramid import nearest_covered
from spae.quantizers import PyramidQuantizer, ResidualQuantizer, VectorQuantizer
from tests import reference

GRIDS = [(1, 1), (2, 2), (4, 4), (8, 8), (8, 8)]
CLIP_GRIDS = [(1, 1, 1), (1, 2, 2), (2, 4, 4), (2, 4, 4)]
FAMILY = {"pyramid": PyramidQuantizer, "residual": ResidualQuantizer}


@pytest.fixture
def codebook():
    return Codebook(torch.randn(60, 6, generator=torch.Generator().manual_seed(0)))


def latents(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", FAMILY)
def test_equals_the_papers_equations_position_by_position(codebook, name):
    z = latents(2, 6, 8, 8)
    quantized = FAMILY[name](codebook, GRIDS)(z)
    expected = reference.quantize(
        z.double().numpy(), codebook.embeddings.double().numpy(), GRIDS, residual=name == "residual"
    )
    for layer in range(len(GRIDS)):
        assert quantized.tokens.layers[layer].flatten(1).tolist() == expected["ids"][layer].tolist()
        np.testing.assert_allclose(quantized.layer_inputs[layer], expected["inputs"][layer], atol=1e-5)
        np.testing.assert_allclose(quantized.layer_estimates[layer], expected["estimates"][layer], atol=1e-5)
    np.testing.assert_allclose(quantized.latents, expected["latents"], atol=1e-5)


@pytest.mark.parametrize(("grids", "side"), [(GRIDS, (8, 8)), (CLIP_GRIDS, (2, 4, 4)), ([(4, 4)] * 3, (4, 4))])
@pytest.mark.parametrize("name", FAMILY)
def test_tokens_embedded_again_are_the_forward_latents_for_every_prefix(codebook, name, grids, side):
    quantizer, z = FAMILY[name](codebook, grids), latents(3, 6, *side)
    for layers in range(1, len(grids) + 1):
        quantized = quantizer(z, layers)
        again = quantizer.embed(quantized.tokens.prefix(layers))
        torch.testing.assert_close(again, quantized.latents, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("grids", "side"), [(GRIDS, (8, 8)), (CLIP_GRIDS, (2, 4, 4)), ([(4, 4)] * 3, (4, 4))])
@pytest.mark.parametrize("name", FAMILY)
def test_the_first_layers_searched_alone_are_those_of_all_and_nothing_else_is_searched(name, grids, side):
    class Counting(Codebook):
        rows = 0

        def nearest(self, queries):
            self.rows += len(queries)
            return super().nearest(queries)

    codebook = Counting(torch.randn(60, 6, generator=torch.Generator().manual_seed(0)))
    quantizer, z = FAMILY[name](codebook, grids), latents(3, 6, *side)
    every = quantizer(z)
    for layers in range(1, len(grids) + 1):
        codebook.rows = 0
        alone = quantizer(z, searched=layers)
        assert alone.tokens == every.tokens.prefix(layers)
        assert codebook.rows == 3 * sum(math.prod(grid) for grid in grids[:layers])
        assert torch.equal(alone.latents, quantizer(z, layers).latents)
    with pytest.raises(ValueError, match="layers=2 is outside 1 to 1"):
        quantizer(z, 2, searched=1)


@pytest.mark.parametrize("name", FAMILY)
def test_float64_latents_are_quantized_as_they_are(codebook, name):
    z = latents(3, 6, 8, 8).double()
    exact, rounded = (FAMILY[name](codebook, GRIDS)(one) for one in (z, z.float()))
    assert exact.latents.dtype == exact.layer_inputs[3].dtype == torch.float64
    assert exact.tokens == rounded.tokens
    torch.testing.assert_close(exact.latents.float(), rounded.latents)


@pytest.mark.parametrize("name", FAMILY)
def test_one_full_layer_is_plain_vector_quantization(codebook, name):
    z = latents(2, 6, 4, 4)
    family, plain = FAMILY[name](codebook, [(4, 4)])(z), VectorQuantizer(codebook, [(4, 4)])(z)
    ids = codebook.nearest(z.permute(0, 2, 3, 1).reshape(-1, 6)).view(2, 4, 4)
    assert torch.equal(family.tokens.layers[0], ids)
    assert torch.equal(plain.tokens.layers[0], ids)
    torch.testing.assert_close(plain.latents, codebook.embed(ids).permute(0, 3, 1, 2))


def test_a_vector_quantizer_has_one_grid(codebook):
    with pytest.raises(ValueError, match="one grid, not 5"):
        VectorQuantizer(codebook, GRIDS)


def test_the_straight_through_gradient_is_the_identity(codebook):
    z, upstream = latents(2, 6, 8, 8).requires_grad_(), latents(2, 6, 8, 8, seed=2)
    PyramidQuantizer(codebook, GRIDS)(z).latents.backward(upstream)
    torch.testing.assert_close(z.grad, upstream)
    assert codebook.embeddings.grad is None


def test_a_prefix_sends_its_gradient_to_the_positions_it_came_from(codebook):
    z, upstream = latents(1, 6, 8, 8).requires_grad_(), latents(1, 6, 8, 8, seed=2)
    PyramidQuantizer(codebook, GRIDS)(z, layers=2).latents.backward(upstream)
    sources = nearest_covered(GRIDS[:2], (8, 8))
    expected = torch.zeros(1, 6, 64).index_add_(2, sources, upstream.flatten(2))
    torch.testing.assert_close(z.grad.flatten(2), expected)


def test_layer_inputs_are_differentiable_with_the_number_of_tokens_so_far(codebook):
    z = latents(1, 6, 8, 8).requires_grad_()
    inputs = PyramidQuantizer(codebook, GRIDS)(z).layer_inputs
    slopes = [torch.autograd.grad(one.sum(), z, retain_graph=True)[0].flatten(2)[0, 0] for one in inputs]
    assert [set(slope.unique().tolist()) for slope in slopes[:3]] == [{0.0, 1.0}] * 3
    assert set(slopes[4].tolist()) == {2.0, 3.0}  # a second token where layers 1 to 3 had none, else a third


def test_the_estimate_is_the_mean_so_that_exact_tokens_give_exact_latents(codebook):
    z = codebook.embed(torch.randint(0, 60, (1, 8, 8), generator=torch.Generator().manual_seed(3))).permute(0, 3, 1, 2)
    torch.testing.assert_close(PyramidQuantizer(codebook, GRIDS)(z).latents, z)


def test_only_disjoint_layers_are_searched_together(codebook, monkeypatch):
    searched = []
    real = Codebook.nearest
    monkeypatch.setattr(Codebook, "nearest", lambda self, rows: searched.append(len(rows)) or real(self, rows))
    PyramidQuantizer(codebook, GRIDS)(latents(2, 6, 8, 8))
    assert searched == [2 * 21, 2 * 64, 2 * 64]


@pytest.mark.parametrize("shape", [(1, 6, 8, 4), (1, 5, 8, 8), (1, 6, 16, 16)])
def test_latents_of_another_shape_are_named(codebook, shape):
    with pytest.raises(ValueError, match="must be"):
        PyramidQuantizer(codebook, GRIDS)(torch.zeros(shape))


def test_foreign_tokens_are_named(codebook):
    tokens = PyramidQuantizer(codebook, CLIP_GRIDS)(latents(1, 6, 2, 4, 4)).tokens
    with pytest.raises(ValueError, match="first layers are"):
        PyramidQuantizer(codebook, GRIDS).embed(tokens)


def test_residuals_never_grow_where_the_table_holds_the_zero_word():
    table = torch.randn(400, 4, generator=torch.Generator().manual_seed(5))
    table[0] = 0
    quantizer, z = ResidualQuantizer(Codebook(table), [(4, 4)] * 4), latents(4, 4, 4, 4)
    errors = [float((quantizer(z, layers).latents - z).square().mean()) for layers in (1, 2, 3, 4)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(errors))
    assert errors[3] < errors[0]
