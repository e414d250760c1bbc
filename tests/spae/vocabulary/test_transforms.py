import numpy as np
import pytest
import torch

from spae.vocabulary.transforms import (
    apply_transform,
    center_and_scale,
    make_transform,
    norm_outliers,
    principal_projection,
)


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(50, 8, generator=generator) * torch.arange(1, 9) + 3


def test_it_is_numpys_singular_vectors_up_to_sign(rows):
    projection = principal_projection(rows, 3)
    exact = rows.double().numpy()
    _, _, directions = np.linalg.svd(exact - exact.mean(0))
    torch.testing.assert_close(
        (projection.double().T @ torch.from_numpy(directions[:3].T)).abs(), torch.eye(3, dtype=torch.float64)
    )
    assert bool((projection.gather(0, projection.abs().argmax(0, keepdim=True)) > 0).all())


def test_the_full_width_keeps_every_distance(rows):
    turned = rows @ principal_projection(rows, 8)
    torch.testing.assert_close(torch.pdist(turned), torch.pdist(rows), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("width", [0, 9])
def test_a_width_that_does_not_fit_is_named(rows, width):
    with pytest.raises(ValueError, match=f"width={width} must be between 1 and 8"):
        principal_projection(rows, width)


def test_the_centred_table_is_the_formula_of_facts_8_1():
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(1)) + 3
    table, mean = center_and_scale(rows)
    exact = rows.numpy().astype(np.float64)
    centred = exact - exact.mean(0)
    np.testing.assert_allclose(table, centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=1e-7)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-6)
    again, _ = center_and_scale((rows - mean) * 7 + 2)
    torch.testing.assert_close(again, table, atol=1e-6, rtol=0)


@pytest.mark.parametrize("rows", [torch.ones(4, 3), torch.tensor([[0.0, torch.nan], [1.0, 2.0]])])
def test_rows_without_direction_are_named(rows):
    with pytest.raises(ValueError, match="row 0 of"):
        center_and_scale(rows)


def test_norm_outliers_are_found_and_rounding_is_none():
    rows = torch.nn.functional.normalize(torch.randn(400, 16, generator=torch.Generator().manual_seed(2)), dim=1)
    assert not norm_outliers(rows).any(), "unit rows differ by rounding alone"
    lengths = torch.empty(400).log_normal_(std=0.1, generator=torch.Generator().manual_seed(3))
    assert not norm_outliers(rows * lengths[:, None]).any()
    lengths[[5, 7, 11]] = torch.tensor([0.0, 0.01, 40.0])
    assert norm_outliers(rows * lengths[:, None]).nonzero()[:, 0].tolist() == [5, 7, 11]
    assert torch.equal(norm_outliers(rows * lengths[:, None] * 1000), norm_outliers(rows * lengths[:, None]))


@pytest.mark.parametrize("width", [None, 16])
def test_a_table_is_the_same_to_the_bit_however_rows_lie_and_threads_run(width):
    rows = torch.randn(5_000, 48, generator=torch.Generator().manual_seed(2)) * torch.logspace(-3, 3, 48)
    transform = make_transform(rows, "centred", width)
    table = apply_transform(rows, transform)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        other = apply_transform(rows.T.contiguous().T, {name: tensor.clone() for name, tensor in transform.items()})
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(other, table)
    assert torch.equal(make_transform(rows.T.contiguous().T, "centred", None)["mean"], transform["mean"])


def test_a_projected_table_is_the_product_in_float64():
    rows = torch.randn(300, 40, generator=torch.Generator().manual_seed(4))
    transform = make_transform(rows, "centred", 7)
    led = (rows - transform["mean"]).double() @ transform["projection"].double()
    led = led - led.mean(0)
    expected = led / led.norm(dim=1, keepdim=True)
    assert (apply_transform(rows, transform).double() - expected).abs().max() < 1e-7
    assert torch.equal(apply_transform(rows, {}), rows)
