"""What a run found, setting by setting: as text, and for summary.json."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.episodes.asking import AskingJob
from jobs.episodes.drawing import DrawingJob
from jobs.episodes.files import INFORMATION, EpisodesRun, stored_footer, stored_scores
from spae.incontext.episodes import ScoredQuery
from spae.incontext.published import TABLE_1, TABLE_3
from spae.incontext.summary import ScoreSummary, as_document, paired_difference, summarise

PUBLISHED = "published (other pictures and language models)"
_SAME = ("seed", "queries")  # of runs that can be paired


@dataclass(frozen=True)
class SettingReport:
    """A setting's figures.

    Attributes:
        setting: its name.
        summary: of its scores.
        chance: what guessing gives, where that means something.
        corpus: what is measured of all answers together.
        paired: the mean difference to what is named, on the same queries, or why there is none.
        published: percent that the paper prints for this setting, by system.
    """

    setting: str
    summary: ScoreSummary
    chance: float | None
    corpus: Mapping[str, float]
    paired: Mapping[str, ScoreSummary | str] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As summary.json has it."""
        document: dict[str, Any] = {**as_document(self.summary), "chance": self.chance, **self.corpus}
        if self.paired:
            document["paired"] = {
                name: {"n/a": one} if isinstance(one, str) else as_document(one) for name, one in self.paired.items()
            }
        if self.published:
            document[PUBLISHED] = dict(self.published)
        return document

    def lines(self) -> Iterator[str]:
        """As people read it, in percent and its points."""
        summary = self.summary
        yield (
            f"{self.setting:44} {100 * summary.mean:5.1f}% [{100 * summary.low:5.1f}%, {100 * summary.high:5.1f}%]  "
            + ("" if self.chance is None else f"chance {100 * self.chance:4.1f}%  ")
            + "".join(_measured(name, self.corpus) for name in self.corpus if not name.endswith(("_low", "_high")))
            + f"n {summary.queries}"
        )
        for name, one in self.paired.items():
            if isinstance(one, str):
                yield f"  minus {name}: n/a: {one}"
                continue
            interval = f"[{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
            yield f"  minus {name}: {100 * one.mean:+.1f} points {interval}  n {one.queries}"
        if self.published:
            yield f"  {PUBLISHED}: " + ", ".join(f"{name} {percent:g}%" for name, percent in self.published.items())


def _measured(name: str, scores: Mapping[str, float]) -> str:
    ends = [scores[name + end] for end in ("_low", "_high") if name + end in scores]
    return f"{name} {scores[name]:.4f}" + (f" [{ends[0]:.4f}, {ends[1]:.4f}]  " if ends else "  ")


def report_setting(
    job: AskingJob | DrawingJob, setting: str, episodes: int, chosen: Sequence[str], compared: Sequence[str]
) -> SettingReport:
    """Figures of a setting from its files.

    Args:
        job: whose files they are.
        setting: whose.
        episodes: the first so many.
        chosen: settings that ran; a control is paired with its plain setting, if that is one of them.
        compared: folders of other runs to pair with, where they hold this setting.

    Raises:
        ValueError: no file stands.
    """

    run = job.run

    def scores(output: str, of: str) -> Iterator[ScoredQuery]:
        return stored_scores(output, run.task, of, episodes)

    holding = [other for other in compared if stored_footer(other, run.task, setting) is not None]
    twins = {other: (other, setting) for other in holding}
    plain = setting.partition("+")[0]
    if plain != setting and plain in chosen:
        twins = {plain: (run.output, plain), **twins}
    paired: dict[str, ScoreSummary | str] = {}
    for name, twin in twins.items():
        try:
            paired[name] = paired_difference(scores(run.output, setting), scores(*twin))
        except ValueError as error:
            paired[name] = str(error)
    return SettingReport(
        setting,
        summarise(scores(run.output, setting)),
        job.task.chance(setting),
        job.corpus_scores(setting, episodes),
        paired,
        published_percents(run.task, setting),
    )


def require_pairable(run: EpisodesRun, settings: Sequence[str], other: str) -> None:
    """ValueError where another run's episodes are not this one's, or it holds none of these settings."""
    found = {setting: footer for setting in settings if (footer := stored_footer(other, run.task, setting)) is not None}
    if not found:
        raise ValueError(f"--compare {other} holds none of the settings {', '.join(settings)} of {run.task}")
    for setting, footer in found.items():
        for name in _SAME:
            if footer.get(name) != run.footer.get(name):
                raise ValueError(
                    f"--compare {other} has {name} {footer.get(name)!r} in {setting}, and this run has "
                    f"{run.footer.get(name)!r}; only runs that ask the same questions can be paired"
                )


def summary_document(
    before: bytes | None, protocol: Mapping[str, Any], deciding: Iterable[str], task: str, reports: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of summary.json; what it said of other settings and tasks stays where the same protocol made it.

    Args:
        before: the file as it stands.
        protocol: of this run.
        deciding: names in it that decide the rows.
        task: that was asked.
        reports: of its settings.
    """
    try:
        old = json.loads(before or b"{}")
    except ValueError:
        old = {}
    made_by, now = old.get("protocol", {}), json.loads(json.dumps(protocol))
    if any(made_by.get(name) != now[name] for name in set(deciding).difference(INFORMATION)):
        old = {}
    return {**old, "protocol": now, task: {**old.get(task, {}), **reports}}


def published_percents(task: str, setting: str) -> dict[str, float]:
    """What the paper prints for a setting, by system; nothing for one that it does not have."""
    table = TABLE_3 if task == "real-fast-vqa" else TABLE_1
    return {
        row.system + ("" if row.layers is None else f", {row.layers} layer{'s' * (row.layers > 1)}"): row.percents[
            setting
        ]
        for row in table
        if setting in row.percents
    }
