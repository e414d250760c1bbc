import copy

import pytest
import torch

from spae.config import DiscriminatorConfig
from spae.training.adversary import Adversary, guarded_step
from spae.training.losses import discriminator_loss, gradient_penalty, lecam_loss

CONFIG = DiscriminatorConfig(base_channels=4, channel_multipliers=(2,), learning_rate=1e-2)


@pytest.fixture
def adversary():
    torch.manual_seed(0)
    return Adversary(CONFIG, (8, 8), (0.0, 0.99))


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(4, 3, 8, 8, generator=generator), torch.rand(4, 3, 8, 8, generator=generator)


def with_config(**values):
    torch.manual_seed(0)
    return Adversary(DiscriminatorConfig(base_channels=4, channel_multipliers=(2,), **values), (8, 8), (0.0, 0.99))


def test_judging_reaches_the_tokenizer_and_not_the_discriminator(adversary, pictures):
    _, fake = pictures
    fake = fake.requires_grad_()
    adversary.adversarial_loss(fake).backward()
    assert float(fake.grad.abs().sum()) > 0
    assert all(one.grad is None for one in adversary.discriminator.parameters())
    assert all(one.requires_grad for one in adversary.discriminator.parameters())


def test_the_loss_is_the_sum_of_its_weighed_terms(adversary, pictures):
    real, fake = pictures
    adversary.averages = torch.tensor([0.3, -0.2])
    averages = adversary.averages.clone()
    loss, terms = adversary.losses(real, fake, step=0)
    real = real.clone().requires_grad_()
    logits = [adversary.discriminator(one) for one in (real, fake)]
    expected = discriminator_loss(*logits) + 10 * gradient_penalty(logits[0], real)
    expected = expected + 1e-4 * lecam_loss(*logits, averages)
    torch.testing.assert_close(loss, expected)
    assert set(terms) == {"discriminator", "gradient_penalty", "lecam", "logit/real", "logit/fake"}
    means = torch.stack([one.mean() for one in logits]).detach()
    torch.testing.assert_close(adversary.averages, 0.999 * averages + 0.001 * means)


def test_a_lazy_penalty_counts_as_often_as_it_is_left_out(pictures):
    lazy, full = with_config(gradient_penalty_every=4, lecam_weight=0.0), with_config(lecam_weight=0.0)
    base = float(full.losses(*pictures, 1)[1]["discriminator"])
    penalty = float(full.losses(*pictures, 1)[0]) - base
    assert [float(lazy.losses(*pictures, step)[0]) - base for step in range(5)] == pytest.approx(
        [4 * penalty, 0, 0, 0, 4 * penalty], abs=1e-5
    )


def test_no_gradient_of_the_discriminators_loss_reaches_the_tokenizer(adversary, pictures):
    real, fake = pictures
    fake = fake.requires_grad_()
    adversary.losses(real, fake, 0)[0].backward()
    assert fake.grad is None


def test_training_it_tells_the_two_apart(adversary, pictures):
    real, fake = pictures
    for step in range(60):
        loss, terms = adversary.losses(real, fake, step)
        adversary.step(loss, 1.0, torch.tensor(False))
    assert float(terms["logit/real"]) > float(terms["logit/fake"]) + 0.1


@pytest.mark.parametrize("poison", ["skip", "loss"])
def test_a_step_that_is_not_finite_changes_nothing(adversary, pictures, poison):
    real, fake = pictures
    loss, _ = adversary.losses(real, fake, 0)
    adversary.step(loss, 1.0, torch.tensor(False))
    before = copy.deepcopy(adversary.state_dict())
    loss, _ = adversary.losses(real, fake * (torch.nan if poison == "loss" else 1), 1)
    adversary.averages = before["averages"]
    adversary.step(loss, 1.0, torch.tensor(poison == "skip"))
    after = adversary.state_dict()
    for name, tensor in before["discriminator"].items():
        assert torch.equal(tensor, after["discriminator"][name]), name
    for number, moments in before["optimizer"]["state"].items():
        for name, tensor in moments.items():
            assert torch.equal(tensor, after["optimizer"]["state"][number][name]), name


def test_averages_forget_what_is_not_finite(adversary, pictures):
    real, fake = pictures
    adversary.losses(real, fake * torch.nan, 0)
    assert bool(adversary.averages.isfinite().all())


def test_a_saved_adversary_goes_on_the_same(adversary, pictures):
    torch.manual_seed(5)
    other = Adversary(CONFIG, (8, 8), (0.0, 0.99))
    for step in range(3):
        adversary.step(adversary.losses(*pictures, step)[0], 1.0, torch.tensor(False))
    other.load_state_dict(copy.deepcopy(adversary.state_dict()))
    ends = []
    for one in (adversary, other):
        one.step(one.losses(*pictures, 3)[0], 0.5, torch.tensor(False))
        ends.append(one.losses(*pictures, 4)[0])
    assert torch.equal(*ends)


def test_a_guarded_step_is_adams_own():
    weights = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    plain, guarded = (
        torch.optim.Adam([one], lr=0.1, fused=fused) for one, fused in zip(weights, (False, True), strict=True)
    )
    for _ in range(3):
        for one in weights:
            one.grad = torch.tensor([1.0, -2.0, 0.5])
        plain.step()
        guarded_step(guarded, torch.tensor(False))
    torch.testing.assert_close(*weights)
