"""Means over episodes with intervals that know that the queries of one share a support, and paired differences.

Rows are read once and never held, so that a million episodes take the memory of one; those of an episode stand
together and episodes in order, as in the files.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from spae.incontext.episodes import ScoredQuery

_Z = 1.959964


@dataclass(frozen=True)
class ScoreSummary:
    """Scores of a setting: n queries in so many episodes, their mean and its 95% interval, errors among them."""

    queries: int
    episodes: int
    errors: int
    mean: float
    low: float
    high: float


def summarise(rows: Iterable[ScoredQuery]) -> ScoreSummary:
    """The mean score with an interval clustered by episode; a question without an answer scores 0.

    ValueError for no rows.
    """
    made = _clustered((row.episode, row.score, row.error is not None) for row in rows)
    if made is None:
        raise ValueError("no rows to summarise; ask at least one episode")
    return ScoreSummary(made.queries, made.episodes, made.errors, made.mean, max(0.0, made.low), min(1.0, made.high))


def summarise_measure(values: Iterable[tuple[int, float]]) -> ScoreSummary:
    """The mean of (episode, value) on any scale, with its interval; ValueError for none."""
    made = _clustered((episode, value, False) for episode, value in values)
    if made is None:
        raise ValueError("no values to summarise")
    return made


def paired_difference(one: Iterable[ScoredQuery], other: Iterable[ScoredQuery]) -> ScoreSummary:
    """The mean of one's scores minus the other's on the queries that both were asked, clustered by episode.

    ValueError where they share none.
    """
    made = _clustered(
        (row.episode, row.score - twin.score, row.error is not None or twin.error is not None)
        for row, twin in _pairs(one, other)
    )
    if made is None:
        raise ValueError("the two share no query: pair runs of one seed, setting and split")
    return made


def as_document(summary: ScoreSummary) -> Mapping[str, float | int]:
    """As JSON tells it."""
    return {"n": summary.queries, **{key: value for key, value in vars(summary).items() if key != "queries"}}


def _pairs(one: Iterable[ScoredQuery], other: Iterable[ScoredQuery]) -> Iterator[tuple[ScoredQuery, ScoredQuery]]:
    theirs = iter(other)
    twin = next(theirs, None)
    for row in one:
        while twin is not None and (twin.episode, twin.query) < (row.episode, row.query):
            twin = next(theirs, None)
        if twin is not None and (twin.episode, twin.query, twin.query_key) == (row.episode, row.query, row.query_key):
            yield row, twin


def _clustered(values: Iterable[tuple[int, float, bool]]) -> ScoreSummary | None:
    """Mean of (episode, value, error), with its 95% interval by the sandwich formula; None for no value.

    Of one episode alone the interval is that of the plain standard error. Sums over episodes of s_e^2, n_e s_e and
    n_e^2, of an episode's sum s_e and count n_e, are all that the formula needs.
    """
    count = episodes = errors = 0
    total = squares = sum_squares = sum_counts = count_squares = 0.0
    for _, members in itertools.groupby(values, key=lambda value: value[0]):
        n, s = 0, 0.0
        for _, value, error in members:
            n, s, squares, errors = n + 1, s + value, squares + value * value, errors + error
        episodes, count, total = episodes + 1, count + n, total + s
        sum_squares, sum_counts, count_squares = sum_squares + s * s, sum_counts + n * s, count_squares + n * n
    if not count:
        return None
    mean = total / count
    if episodes == 1:
        variance = (squares / count - mean * mean) / count
    else:
        deviations = sum_squares - 2 * mean * sum_counts + mean * mean * count_squares
        variance = episodes / (episodes - 1) * deviations / count**2
    half = _Z * math.sqrt(max(variance, 0.0))
    return ScoreSummary(count, episodes, errors, mean, mean - half, mean + half)
