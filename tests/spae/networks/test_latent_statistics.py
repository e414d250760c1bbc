import pytest
import torch

from spae.networks.latent_statistics import LatentNormalisation
from tests.ranks import on_ranks


@pytest.mark.parametrize("statistics", ["position", "channel"])
def test_normalisation_gives_the_tables_mean_and_spread(statistics):
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(200, 6, generator=generator) * 3 + 1
    norm = LatentNormalisation(statistics, table, (4, 4)).train()
    raw = torch.randn(64, 6, 4, 4, generator=generator)
    z = norm(raw * (0.1 + torch.rand(6, 1, 1, generator=generator)) * 9 - 4)
    axes = (0,) if statistics == "position" else (0, 2, 3)
    spread = (table - table.mean(0)).square().sum(1).mean().div(6).sqrt()
    mean = z.mean(axes)
    torch.testing.assert_close(
        mean, table.mean(0).reshape(6, *[1] * (mean.ndim - 1)).expand_as(mean), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(z.var(axes, correction=0).sqrt(), spread.expand_as(mean), atol=1e-3, rtol=1e-3)


def test_in_evaluation_a_latent_does_not_depend_on_the_batch():
    norm = LatentNormalisation("position", torch.randn(50, 6), (4, 4))
    raw = torch.randn(16, 6, 4, 4)
    norm.train()(raw)
    norm.eval()
    assert torch.equal(norm(raw)[3:4], norm(raw[3:4]))
    remembered = norm.mean.clone()
    norm(raw + 5)
    assert torch.equal(norm.mean, remembered)


def test_none_passes_the_latents_through():
    raw = torch.randn(2, 6, 4, 4)
    assert torch.equal(LatentNormalisation("none", torch.randn(50, 6), (4, 4)).train()(raw), raw)


def _normalise_on_rank(rank, raw, table):
    norm = LatentNormalisation("position", table, (2, 2)).train()
    mine = raw[rank * 3 : rank * 3 + 3].clone().requires_grad_()
    norm(mine).pow(3).sum().backward()
    return mine.grad.numpy(), norm.mean.numpy()


def test_two_ranks_use_the_statistics_and_gradients_of_the_whole_batch():
    generator = torch.Generator().manual_seed(0)
    raw, table = torch.randn(6, 3, 2, 2, generator=generator), torch.randn(9, 3, generator=generator)
    found = on_ranks(_normalise_on_rank, raw, table)
    norm, whole = LatentNormalisation("position", table, (2, 2)).train(), raw.clone().requires_grad_()
    norm(whole).pow(3).sum().backward()
    gradient = torch.cat([torch.from_numpy(gradient) for gradient, _ in found])
    torch.testing.assert_close(gradient, whole.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(found[1][1]), norm.mean, rtol=1e-5, atol=1e-6)


def test_stored_statistics_serve_in_training_too():
    norm, raw = LatentNormalisation("position", torch.randn(50, 6), (4, 4)), torch.randn(16, 6, 4, 4)
    norm.train()(raw)
    remembered = norm.mean.clone()
    assert torch.equal(norm.train().stored(raw)[3:4], norm.stored(raw[3:4]))
    assert torch.equal(norm.stored(raw), norm.eval()(raw))
    assert torch.equal(norm.mean, remembered)


@pytest.mark.parametrize(("statistics", "grid"), [("position", (4, 4)), ("channel", (1, 1))])
def test_a_batch_that_leaves_nothing_to_train_is_refused(statistics, grid):
    """Any two samples become plus and minus one spread, whatever the encoder says: its gradient is zero."""
    norm = LatentNormalisation(statistics, torch.randn(50, 6), grid).train()
    for size in (1, 2):
        with pytest.raises(ValueError, match=f"statistics of {size} latents .* at least 3"):
            norm(torch.randn(size, 6, *grid))
    raw = torch.randn(3, 6, *grid, requires_grad=True)
    norm(raw).pow(3).sum().backward()
    assert raw.grad.abs().max() > 0.1
