import numpy as np
import pytest
import scipy.linalg
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torchmetrics.image.fid import _compute_fid

from spae.evaluation.distances import FeatureMoments, InceptionScore, frechet_distance
from spae.evaluation.judging import parts_of


def rebuilt_features(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(200, 12, generator=generator) @ torch.randn(12, 12, generator=generator) + 0.5


def test_frechet_distance_and_inception_score_are_torch_fidelitys_and_torchmetrics():
    one, other = rebuilt_features(), rebuilt_features(1)
    ours = frechet_distance(moments(one), moments(other))
    theirs = [fid_features_to_statistics(features) for features in (one, other)]
    expected = fid_statistics_to_metric(*theirs, verbose=False)["frechet_inception_distance"]
    assert ours == pytest.approx(expected, rel=1e-4)
    statistics = [value for two in theirs for value in (torch.tensor(two["mu"]), torch.tensor(two["sigma"]))]
    assert ours == pytest.approx(float(_compute_fid(*statistics)), rel=1e-4)
    logits, score = rebuilt_features(2), InceptionScore(12)
    score.update(logits.double().softmax(1))
    fidelity = isc_features_to_metric(logits, splits=1, shuffle=False)["inception_score_mean"]
    assert score.compute() == pytest.approx(fidelity, rel=1e-4)


def test_the_frechet_distance_of_gaussians_is_its_closed_form():
    """Of diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
    grid = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4)
    scales, shift = torch.tensor([1.0, 2.0, 3.0, 0.5]).double(), torch.tensor([0.0, 1.0, 2.0, 3.0]).double()
    factor = 16 / 15  # unbiased variances
    expected = float(shift.square().sum() + factor * (scales - 1).square().sum())
    assert frechet_distance(moments(grid), moments(grid * scales + shift)) == pytest.approx(expected, rel=1e-9)


def test_the_inception_score_of_parts_is_their_mean_and_a_part_depends_on_the_key_alone():
    probabilities, parts = torch.randn(30, 4).softmax(1), parts_of([f"key{n}" for n in range(30)], 3, 0)
    whole, order = InceptionScore(4, 3), torch.randperm(30)
    whole.update(probabilities[order], parts[order])
    own = []
    for part in range(3):
        own.append(InceptionScore(4))
        own[-1].update(probabilities[parts == part])
    assert whole.compute() == pytest.approx(np.mean([one.compute() for one in own]), rel=1e-9)
    assert not torch.equal(parts, parts_of([f"key{n}" for n in range(30)], 3, 1))


def moments(features, parts=1):
    counted = FeatureMoments(features.shape[1])
    for part in features.chunk(parts):
        counted.update(part)
    return counted


def test_the_frechet_distance_is_that_of_scipys_matrix_root():
    one, other = torch.randn(50, 6), 0.5 * torch.randn(40, 6) @ torch.randn(6, 6) + 1
    expected_moments = [(x.double().numpy().mean(0), np.cov(x.double().numpy(), rowvar=False)) for x in (one, other)]
    (mean1, cov1), (mean2, cov2) = expected_moments
    root = scipy.linalg.sqrtm(cov1 @ cov2).real
    expected = ((mean1 - mean2) ** 2).sum() + np.trace(cov1 + cov2 - 2 * root)
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(expected, rel=1e-8)


def test_a_set_is_at_no_distance_from_itself_and_parts_add_up():
    features = torch.randn(60, 5)
    assert frechet_distance(moments(features), moments(features)) == pytest.approx(0, abs=1e-8)
    merged, rest = moments(features[:20]), moments(features[20:], parts=4)
    merged.merge(rest)
    for one, other in zip(merged.compute(), moments(features).compute(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_rank_deficient_covariance_is_no_trouble():
    features = torch.randn(4, 10)
    assert frechet_distance(moments(features), moments(features + 2)) == pytest.approx(40, rel=1e-6)


def test_one_picture_has_no_covariance():
    with pytest.raises(ValueError, match="count at least two"):
        moments(torch.randn(1, 3)).compute()


def test_the_inception_score_is_its_formula_and_within_its_bounds():
    probabilities = torch.randn(30, 4).softmax(1)
    score = InceptionScore(4)
    for part in probabilities.split(7):
        score.update(part)
    p = probabilities.double().numpy()
    expected = np.exp((p * np.log(p / p.mean(0))).sum(1).mean())
    assert score.compute() == pytest.approx(expected)
    sure = InceptionScore(4)
    sure.update(torch.eye(4).repeat(3, 1))
    assert sure.compute() == pytest.approx(4)
    same = InceptionScore(4)
    same.update(torch.full((5, 4), 0.25))
    assert same.compute() == pytest.approx(1)
    same.merge(sure)
    assert 1 < same.compute() < 4
