import numpy as np
import pytest
import torch

from spae.projection import principal_projection


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
