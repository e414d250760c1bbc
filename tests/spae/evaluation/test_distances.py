import numpy as np
import pytest
import scipy.linalg
import torch

from spae.evaluation.distances import FeatureMoments, InceptionScore, frechet_distance


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
