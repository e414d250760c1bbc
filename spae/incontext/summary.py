"""Means over episodes with intervals that know that the queries of one share a support, and paired differences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spae.incontext.episodes import EpisodeRow

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


def summarise(rows: Sequence[EpisodeRow]) -> ScoreSummary:
    """The mean score with an interval clustered by episode; a question without an answer scores 0.

    ValueError for no rows.
    """
    if not rows:
        raise ValueError("no rows to summarise; ask at least one episode")
    mean, half = _clustered([row.episode for row in rows], [row.score for row in rows])
    return ScoreSummary(
        queries=len(rows),
        episodes=len({row.episode for row in rows}),
        errors=sum(row.error is not None for row in rows),
        mean=mean,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
    )


def paired_difference(one: Sequence[EpisodeRow], other: Sequence[EpisodeRow]) -> ScoreSummary:
    """The mean of one's scores minus the other's on the queries that both were asked, clustered by episode.

    ValueError where they share none.
    """
    theirs = {(row.episode, row.query, row.query_key): row for row in other}
    pairs = [(row, theirs[key]) for row in one if (key := (row.episode, row.query, row.query_key)) in theirs]
    if not pairs:
        raise ValueError("the two share no query: pair runs of one seed, setting and split")
    mean, half = _clustered([row.episode for row, _ in pairs], [row.score - twin.score for row, twin in pairs])
    errors = sum(row.error is not None or twin.error is not None for row, twin in pairs)
    episodes = len({row.episode for row, _ in pairs})
    return ScoreSummary(len(pairs), episodes, errors, mean, mean - half, mean + half)


def as_document(summary: ScoreSummary) -> Mapping[str, float | int]:
    """As JSON tells it."""
    return {"n": summary.queries, **{key: value for key, value in vars(summary).items() if key != "queries"}}


def _clustered(clusters: Sequence[int], values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95% interval by the sandwich formula; of one cluster the plain standard error."""
    numbers = np.unique(np.asarray(clusters), return_inverse=True)[1]
    deviations = np.asarray(values, np.float64) - np.mean(values)
    count = int(numbers.max()) + 1
    if count == 1:
        return float(np.mean(values)), _Z * float(np.std(values)) / math.sqrt(len(values))
    sums = np.bincount(numbers, weights=deviations)
    variance = count / (count - 1) * float(np.square(sums).sum()) / len(values) ** 2
    return float(np.mean(values)), _Z * math.sqrt(variance)
