import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

from spae.incontext.episodes import (
    EpisodeRow,
    episodes_url,
    finished_files,
    read_episodes,
    write_episodes,
)
from spae.incontext.summary import paired_difference, summarise


def row(episode=0, query=0, score=1.0, **changes):
    made = EpisodeRow(
        episode=episode,
        query=query,
        seed=3,
        setting="5-way-1-shot",
        query_key=f"key-{episode}-{query}",
        support_keys=("a", "b"),
        prompt="Input:",
        answer=" dax",
        parsed="dax",
        target="dax",
        score=score,
        prompt_tokens=5,
        answer_tokens=1,
        seconds=0.1,
    )
    return dataclasses.replace(made, **changes)


def test_rows_come_back_with_what_made_them(tmp_path):
    url = episodes_url(str(tmp_path), "few-shot-real", "5-way-1-shot", 3)
    rows = [row(0), row(1, error="context: 9000 tokens", score=0.0)]
    write_episodes(url, rows, {"layers": 2})
    assert read_episodes(url) == (rows, {"layers": 2})
    assert finished_files(str(tmp_path), "few-shot-real", "5-way-1-shot") == {3: url}
    assert finished_files(str(tmp_path), "few-shot-real", "2-way-1-shot") == {}
    assert pq.read_table(url)["error"].to_pylist() == [None, "context: 9000 tokens"]


def test_other_files_are_named(tmp_path):
    (tmp_path / "episodes-000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="no file of episodes"):
        read_episodes(str(tmp_path / "episodes-000000.parquet"))


def test_the_interval_knows_that_queries_share_a_support():
    """Scores that agree within an episode tell as much as one query an episode, whatever their number."""
    generator = np.random.default_rng(0)
    right = generator.random(60) < 0.6
    few = summarise([row(episode, 0, float(right[episode])) for episode in range(60)])
    many = summarise([row(episode, query, float(right[episode])) for episode in range(60) for query in range(8)])
    assert (many.queries, many.episodes, many.mean) == (480, 60, few.mean)
    assert many.high - many.low == pytest.approx(few.high - few.low)
    apart = summarise([row(number, 0, float(right[number % 60])) for number in range(480)])
    assert apart.high - apart.low < 0.5 * (many.high - many.low)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator, covered = np.random.default_rng(1), 0
    for _ in range(300):
        chances = generator.beta(4, 4, 50)
        rows = [row(e, q, float(generator.random() < chances[e])) for e in range(50) for q in range(6)]
        found = summarise(rows)
        covered += found.low <= 0.5 <= found.high
    assert 0.91 <= covered / 300 <= 0.98


def test_paired_runs_are_compared_on_the_queries_that_both_were_asked():
    one = [row(episode, query, 1.0) for episode in range(10) for query in range(2)]
    other = [row(episode, query, float(episode % 2)) for episode in range(8) for query in range(2)]
    found = paired_difference(one, other)
    assert (found.queries, found.episodes, found.mean) == (16, 8, 0.5)
    assert found.low < 0.5 < found.high
    with pytest.raises(ValueError, match="share no query"):
        paired_difference(one, [row(0, 0, query_key="other")])
