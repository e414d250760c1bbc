"""The adversarial, perceptual and table terms, against NumPy and torch's own losses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spae.collectives import rank_weight
from spae.training.losses import (
    codebook_loss,
    commitment_loss,
    discriminator_loss,
    entropy_loss,
    generator_loss,
    gradient_penalty,
    lecam_loss,
    perceptual_loss,
)
from tests import reference
from tests.ranks import on_ranks


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    real, fake = (3 * torch.randn(7, generator=generator, dtype=torch.float64) for _ in range(2))
    return real.requires_grad_(), fake.requires_grad_()


def test_the_generator_wants_its_pictures_taken_for_real(logits):
    _, fake = logits
    loss = generator_loss(fake)
    assert float(loss) == pytest.approx(reference.softplus(-fake.detach().numpy()).mean())
    assert float(loss) == pytest.approx(float(F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))))
    loss.backward()
    torch.testing.assert_close(fake.grad, (torch.sigmoid(fake.detach()) - 1) / 7)


def test_the_discriminator_tells_them_apart(logits):
    real, fake = logits
    loss = discriminator_loss(real, fake)
    expected = reference.softplus(-real.detach().numpy()).mean() + reference.softplus(fake.detach().numpy()).mean()
    assert float(loss) == pytest.approx(expected)
    own = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(loss, own(real, torch.ones_like(real)) + own(fake, torch.zeros_like(fake)))


def test_the_gradient_penalty_is_that_of_a_known_function():
    """logit = sum a x^2 has the gradient 2 a x; the penalty's own gradient in a is 8 a x^2 summed, over the batch."""
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64).requires_grad_()
    a = torch.randn(2, 4, 4, dtype=torch.float64).requires_grad_()
    penalty = gradient_penalty((a * x**2).flatten(1).sum(1), x)
    expected = ((2 * a * x) ** 2).flatten(1).sum(1).mean()
    torch.testing.assert_close(penalty, expected.detach())
    penalty.backward()
    torch.testing.assert_close(a.grad, (8 * a * x**2).detach().mean(0))


@pytest.mark.parametrize("averages", [(0.5, -0.5), (5.0, -5.0), (-5.0, 5.0)])
def test_lecam_is_the_published_formula(logits, averages):
    real, fake = logits
    loss = lecam_loss(real, fake, torch.tensor(averages, dtype=torch.float64))
    assert float(loss) == pytest.approx(reference.lecam(real.detach().numpy(), fake.detach().numpy(), *averages))
    loss.backward()
    pull = 2 * max(float(real.mean()) - averages[1], 0) / 7
    torch.testing.assert_close(real.grad, torch.full((7,), pull, dtype=torch.float64))


def test_the_perceptual_loss_is_the_mean_over_logits():
    one, other = torch.randn(2, 10), torch.randn(2, 10)
    expected = ((one.double() - other.double()) ** 2).mean()
    assert float(perceptual_loss(one, other)) == pytest.approx(float(expected), rel=1e-6)


def test_the_codebook_loss_is_commitment_with_the_gradient_on_the_other_side():
    z = torch.randn(2, 5, 2, 2).requires_grad_()
    estimates = [torch.randn(2, 1, 5).requires_grad_(), torch.randn(2, 4, 5).requires_grad_()]
    where = [torch.tensor([3]), torch.arange(4)]
    drawn = codebook_loss(z, estimates, where)
    torch.testing.assert_close(drawn, commitment_loss(z, estimates, where))
    drawn.backward()
    assert z.grad is None
    expected = 2 * (estimates[1] - z.detach().flatten(2).transpose(1, 2)).detach() / (2 * 4)
    torch.testing.assert_close(estimates[1].grad, expected)


@pytest.mark.parametrize("block", [16_777_216, 30])
def test_the_entropy_loss_equals_the_reference_in_blocks_of_any_size(monkeypatch, block):
    monkeypatch.setattr("spae.training.losses._BLOCK_SCORES", block)
    generator = torch.Generator().manual_seed(0)
    z, rows = (torch.randn(n, 4, generator=generator, dtype=torch.float64).requires_grad_() for n in (9, 10))
    loss = entropy_loss(z, rows, temperature=0.7)
    assert float(loss) == pytest.approx(reference.entropy_loss(z.detach().numpy(), rows.detach().numpy(), 0.7))
    loss.backward()
    step, numbers = 1e-6, z.detach().numpy().copy()
    numbers[3, 2] += step
    slope = (reference.entropy_loss(numbers, rows.detach().numpy(), 0.7) - float(loss)) / step
    assert float(z.grad[3, 2]) == pytest.approx(slope, rel=1e-3)
    assert np.isfinite(rows.grad.numpy()).all()
    assert float(rows.grad.abs().sum()) > 0


def _entropy_on_rank(rank, latents, rows, sizes):
    mine, rows = latents.split(sizes)[rank].clone().requires_grad_(), rows.clone().requires_grad_()
    weight = rank_weight(len(mine), len(latents))
    loss = weight * entropy_loss(mine, rows, 0.1, weight)
    loss.backward()
    return float(loss), mine.grad.numpy(), rows.grad.numpy()


def test_the_weighted_mean_of_the_ranks_entropy_losses_is_that_of_the_whole_batch():
    generator = torch.Generator().manual_seed(0)
    latents, rows = (torch.randn(n, 8, generator=generator).requires_grad_() for n in (64, 40))
    whole = entropy_loss(latents, rows, 0.1)
    whole.backward()
    losses, own, shared = zip(*on_ranks(_entropy_on_rank, latents.detach(), rows.detach(), (37, 27)), strict=True)
    assert sum(losses) / 2 == pytest.approx(float(whole), rel=1e-5)
    gradient = torch.cat([torch.from_numpy(one) for one in own]) / 2  # as averaging the ranks' gradients does
    torch.testing.assert_close(gradient, latents.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(torch.from_numpy(sum(shared) / 2), rows.grad, rtol=1e-4, atol=1e-6)


def test_words_that_nobody_chooses_give_finite_gradients():
    z = torch.zeros(3, 2).requires_grad_()
    rows = torch.tensor([[0.0, 0.1], [9.0, 9.0], [50.0, 0.0]]).requires_grad_()
    entropy_loss(z, rows).backward()
    assert bool(z.grad.isfinite().all())
    assert bool(rows.grad.isfinite().all())
