"""What a frozen language model made of the words: its scores beside their controls, and whole prompts with answers."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spae.data.publishing import join, read_bytes
from spae.incontext.episodes import EpisodeRow, episodes_url, read_episodes

PROMPTS = 3
"""Prompts that the page shows whole, each of another episode."""


@dataclass(frozen=True)
class Reading:
    """A folder of `jobs.incontext`: what ran, the scores of each setting, and some questions of the first."""

    language_model: str
    task: str
    scores: Mapping[str, Mapping[str, Any]]
    examples: tuple[EpisodeRow, ...]


def gather_reading(folder: str) -> Reading | None:
    """What a folder holds, None where it has no scores; ValueError where its rows are missing or broken."""
    data = read_bytes(join(folder, "summary.json"))
    if data is None:
        return None
    summary = json.loads(data)
    task, settings = next((name, value) for name, value in summary.items() if name != "protocol")
    scores = {name: one for name, one in settings.items() if "mean" in one}  # others mean nothing here
    if not scores:
        return None
    rows, _ = read_episodes(episodes_url(folder, task, next(iter(scores)), 0))
    examples = tuple(row for row in rows if row.query == 0)[:PROMPTS]
    return Reading(summary["protocol"]["llm"], task, scores, examples)


def reading_text(reading: Reading | None) -> str:
    """The scores for a terminal, a line a setting; empty without a reading."""
    if reading is None:
        return ""
    lines = "".join(f"{name:46} {share}\n" for name, share in _shares(reading.scores))
    return f"{reading.language_model} reads the words, {reading.task}:\n{lines}"


def reading_html(reading: Reading | None) -> str:
    """A section of the page, empty without a reading."""
    if reading is None:
        return ""
    body = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(share)}</td></tr>" for name, share in _shares(reading.scores)
    )
    return (
        "<h2>What a frozen language model reads in the words</h2>"
        f"<p>{html.escape(reading.language_model)} never saw a picture: it goes on with the text of the prompts below, "
        "whose examples are training pictures and whose queries are test pictures, as words. Free text; only the whole "
        "name is right. Names are made up, so that only the examples tell what they mean; with words shuffled between "
        "the examples nothing does.</p>"
        f"<table class='figures'><tbody>{body}</tbody></table>{_prompts(reading.examples)}"
    )


def _shares(scores: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [
        (name, f"{one['mean']:.1%} [{one['low']:.1%}, {one['high']:.1%}] of {one['n']}, chance {one['chance']:.0%}")
        for name, one in scores.items()
    ]


def _prompts(rows: Sequence[EpisodeRow]) -> str:
    parts = []
    for row in rows:
        verdict = "right" if row.score == 1 else f"wrong: {row.target}"
        answer = html.escape(row.answer or row.error or "")
        parts.append(
            f"<p><span class='key'>{html.escape(row.query_key)}</span>, {html.escape(verdict)}</p>"
            f"<pre class='prompt'>{html.escape(row.prompt)} <b>{answer}</b></pre>"
        )
    return "".join(parts)
