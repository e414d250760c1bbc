"""The streamed sums against the formula written out on whole arrays."""

import math

import numpy as np
import pytest

from spae.incontext.episodes import ScoredQuery
from spae.incontext.summary import paired_difference, summarise


def scored(values, counts):
    """Queries of episodes of so many each."""
    episodes = np.repeat(np.arange(len(counts)), counts).tolist()
    places = [n for count in counts for n in range(count)]
    return [
        ScoredQuery(episode=e, query=n, query_key=f"{e}-{n}", score=float(value))
        for e, n, value in zip(episodes, places, values, strict=True)
    ]


def half_width(values, counts):
    deviations = np.asarray(values) - np.mean(values)
    sums = np.add.reduceat(deviations, np.cumsum([0, *counts[:-1]]))
    return 1.959964 * math.sqrt(len(counts) / (len(counts) - 1) * (sums**2).sum()) / len(values)


@pytest.mark.parametrize("seed", range(5))
def test_streamed_sums_give_the_sandwich_formula(seed):
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 9, 40).tolist()
    values = generator.random(sum(counts))
    found = summarise(iter(scored(values, counts)))
    assert (found.queries, found.episodes, found.errors) == (sum(counts), 40, 0)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.high - found.mean == pytest.approx(half_width(values, counts), abs=1e-9)
    other = generator.random(sum(counts))
    paired = paired_difference(iter(scored(values, counts)), iter(scored(other, counts)))
    assert paired.mean == pytest.approx((values - other).mean(), abs=1e-12)
    assert paired.high - paired.mean == pytest.approx(half_width(values - other, counts), abs=1e-9)


def test_scores_that_never_differ_have_no_width():
    found = summarise(scored([0.1] * 30, [3] * 10))
    assert found.high - found.low == pytest.approx(0, abs=1e-7)
    assert (summarise(scored([1.0] * 30, [3] * 10)).low, summarise(scored([1.0], [1])).low) == (1.0, 1.0)


def test_a_run_with_holes_is_paired_on_what_is_there():
    whole = scored(np.ones(20), [4] * 5)
    holes = [row for row in scored(np.zeros(20), [4] * 5) if (row.episode, row.query) not in ((0, 0), (2, 3), (4, 3))]
    assert paired_difference(whole, holes).queries == paired_difference(holes, whole).queries == 17
    assert paired_difference(holes, whole).mean == -1
