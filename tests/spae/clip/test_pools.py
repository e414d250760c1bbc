import pytest
import torch

from spae.clip.pools import expected_pool_size, min_max, pool_problems, pool_sizes, sample_targets, similarity
from spae.config import PAPER_THRESHOLDS


def test_similarity_is_equation_6():
    generator = torch.Generator().manual_seed(0)
    image, semantics = torch.randn(6, 8, generator=generator), torch.randn(30, 8, generator=generator)
    cosines = image.double() @ semantics.double().T
    low, high = cosines.min(1, keepdim=True).values, cosines.max(1, keepdim=True).values
    found = similarity(image, semantics)
    torch.testing.assert_close(found.double(), (cosines - low) / (high - low), atol=1e-6, rtol=0)
    assert (found.max(1).values == 1).all()
    assert (found.min(1).values == 0).all()


@pytest.mark.parametrize("words", [1, 3])
def test_equal_words_are_all_the_best(words):
    assert (similarity(torch.randn(2, 4), torch.ones(1, 4).expand(words, 4)) == 1).all()


def test_pools_grow_with_lower_thresholds_and_always_hold_the_best_word():
    scores = similarity(torch.randn(20, 8), torch.randn(300, 8))
    sizes = pool_sizes(scores, (1.0, 0.9, 0.5, 0.0))
    assert (sizes[:, 0] >= 1).all()
    assert (sizes.diff(dim=1) >= 0).all()
    assert (sizes[:, -1] == 300).all()
    exact = [[sum(score >= rho for score in row) for rho in (1.0, 0.9, 0.5, 0.0)] for row in scores.tolist()]
    assert [[int(size) for size in row] for row in sizes] == exact
    best = sample_targets(scores, 1.0, torch.rand(20, 3))
    assert torch.equal(best, scores.argmax(1, keepdim=True).expand(20, 3))


def test_targets_are_the_pools_members_each_with_its_own_draw():
    scores = similarity(torch.randn(5, 8), torch.randn(40, 8))
    for threshold in (0.9, 0.6, 0.0):
        for row in range(5):
            pool = [word for word in range(40) if scores[row, word] >= threshold]
            draws = (torch.arange(len(pool)) + 0.5) / len(pool)
            targets = sample_targets(scores[row : row + 1], threshold, draws[None])
            assert targets.dtype == torch.int64
            assert targets[0].tolist() == pool, "evenly spaced draws name every member once"


def test_targets_are_uniform_over_the_pool():
    scores = similarity(torch.randn(2, 8, generator=torch.Generator().manual_seed(4)), torch.randn(50, 8))
    draws = torch.rand(2, 60_000, generator=torch.Generator().manual_seed(5))
    targets = sample_targets(scores, 0.5, draws)
    for row in range(2):
        size = int(pool_sizes(scores, (0.5,))[row, 0])
        counts = targets[row].bincount(minlength=50)[scores[row] >= 0.5]
        assert int(counts.sum()) == 60_000, "no target lies outside the pool"
        expected = 60_000 / size
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        assert chi_square < size + 5 * (2 * size) ** 0.5


def test_the_largest_draw_stays_inside_the_pool():
    below_one = torch.tensor([[1 - 2**-24, 0.0]])
    assert sample_targets(torch.ones(1, 70_000), 0.5, below_one).tolist() == [[69_999, 0]]
    assert sample_targets(torch.ones(1, 1), 0.5, below_one).tolist() == [[0, 0]]


def test_a_broken_feature_is_not_taken_for_similar():
    assert similarity(torch.tensor([[torch.nan, 1.0]]), torch.randn(3, 2)).isnan().all()


def test_the_usual_pools_of_the_papers_thresholds():
    sizes = [expected_pool_size(65_536, rho) for rho in PAPER_THRESHOLDS]
    assert sizes == pytest.approx([1.5, 4, 22, 96, 353], rel=0.08)  # rounded there
    generator = torch.Generator().manual_seed(0)
    drawn = pool_sizes(min_max(torch.randn(40, 65_536, generator=generator)), PAPER_THRESHOLDS).float().mean(0)
    assert sizes == pytest.approx(drawn.tolist(), rel=0.3)
    assert expected_pool_size(10, 0.98) == 1


def test_pools_ten_times_off_are_named():
    usual = [expected_pool_size(65_536, rho) for rho in PAPER_THRESHOLDS]
    assert pool_problems(usual, PAPER_THRESHOLDS, 65_536) == []
    sizes = [usual[0] * 11, *usual[1:4], usual[4] / 11]
    found = pool_problems(sizes, PAPER_THRESHOLDS, 65_536)
    assert [sentence.split(":")[0] for sentence in found] == ["layer 1", "layer 5"]
    assert "at threshold 0.98, where 1.5 of 65536 are usual" in found[0]
