import math

import pytest
import torch

from spae.codebook.usage import WordUsage
from spae.pyramid import TokenPyramid


def pyramid(seed, batch=6):
    generator = torch.Generator().manual_seed(seed)
    return TokenPyramid(tuple(torch.randint(0, 9, (batch, n, n), generator=generator) for n in (1, 2, 4)))


def count(*pyramids):
    usage = WordUsage(words=12, layers=3)
    for one in pyramids:
        usage.update(one)
    return usage


def test_parts_merge_to_the_whole():
    merged = count(pyramid(0), pyramid(1))
    other = count(pyramid(2))
    merged.merge(other)
    whole = count(*(pyramid(seed) for seed in (0, 1, 2)))
    assert torch.equal(merged.counts, whole.counts)
    assert merged.compute() == whole.compute()


def test_the_order_of_images_does_not_matter():
    one = pyramid(3)
    reversed_ = TokenPyramid(tuple(layer.flip(0) for layer in one.layers))
    assert torch.equal(count(one).counts, count(reversed_).counts)


def test_counts_are_those_of_each_layer():
    one = pyramid(4)
    expected = torch.stack([torch.bincount(layer.flatten(), minlength=12) for layer in one.layers])
    assert torch.equal(count(one).counts, expected)


def test_summary_of_known_frequencies():
    layer = TokenPyramid((torch.tensor([3, 3, 5, 7]).reshape(1, 2, 2),))
    usage = WordUsage(words=10, layers=1)
    usage.update(layer)
    (summary,) = usage.compute()
    entropy = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert (summary.words, summary.share, summary.top_word, summary.top_share) == (3, 0.3, 3, 0.5)
    assert summary.entropy == pytest.approx(entropy)
    assert summary.perplexity == pytest.approx(math.exp(entropy))


def test_nothing_counted_and_other_depths_are_errors():
    with pytest.raises(ValueError, match="no words were counted"):
        WordUsage(5, 2).compute()
    with pytest.raises(ValueError, match="3 layers cannot be counted with one of 2"):
        WordUsage(12, 2).update(pyramid(0))
