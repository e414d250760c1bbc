"""Files of episodes of a run: which there are to be, and by their footers alone which are still to be made."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from spae.incontext.episodes import (
    ScoredQuery,
    episodes_url,
    finished_files,
    read_episodes,
    read_footer,
    read_measures,
    read_scores,
)

EPISODES_A_FILE = 25
"""Of tasks that ask one question a query; drawing takes a file an episode."""

INFORMATION = ("code_version", "episodes")  # of a footer, which redo nothing
_SIMULTANEOUS_READS = 32


@dataclass(frozen=True)
class EpisodeFile:
    """Episodes first..stop of a setting."""

    setting: str
    index: int
    first: int
    stop: int

    def __len__(self) -> int:
        """Episodes."""
        return self.stop - self.first


@dataclass(frozen=True)
class EpisodesRun:
    """The files of a run.

    Attributes:
        output: folder of the run.
        task: name of the task.
        footer: what makes the rows, as far as it decides them.
        episodes_a_file: at most.
    """

    output: str
    task: str
    footer: Mapping[str, Any]
    episodes_a_file: int = EPISODES_A_FILE

    def url(self, file: EpisodeFile) -> str:
        """Where a file stands or will stand."""
        return episodes_url(self.output, self.task, file.setting, file.index)

    def missing(self, setting: str, episodes: int, *, retry_errors: bool = False) -> list[EpisodeFile]:
        """Files of a setting that do not stand there yet, hold fewer episodes, or if asked hold errors.

        ValueError for a file that another run made.
        """
        there = finished_files(self.output, self.task, setting)
        files = [
            EpisodeFile(setting, index, first, min(first + self.episodes_a_file, episodes))
            for index, first in enumerate(range(0, episodes, self.episodes_a_file))
        ]
        standing = [file for file in files if file.index in there]
        with ThreadPoolExecutor(_SIMULTANEOUS_READS) as pool:
            done = pool.map(lambda file: self._is_done(file, there[file.index], retry_errors), standing)
            finished = {file for file, whole in zip(standing, done, strict=True) if whole}
        return [file for file in files if file not in finished]

    def _is_done(self, file: EpisodeFile, url: str, retry_errors: bool) -> bool:
        footer = read_footer(url)
        unknown = () if self.footer.get("llm_revision") else ("llm_revision",)  # until a server has answered
        for name in sorted((self.footer.keys() | footer.keys()).difference(INFORMATION, unknown)):
            if footer.get(name) != self.footer.get(name):
                raise ValueError(
                    f"{url} has {name} {footer.get(name)!r}, and this run has {self.footer.get(name)!r}; give another "
                    "--output"
                )
        if retry_errors and any(row.error for row in read_scores(url)):
            return False
        return int(footer["episodes"]) >= len(file)


def stored_scores(output: str, task: str, setting: str, episodes: int) -> Iterator[ScoredQuery]:
    """The first episodes of a setting as they stand on disk, one file in memory at a time."""
    for url in _stored(output, task, setting):
        yield from (row for row in read_scores(url) if row.episode < episodes)


def stored_answers(output: str, task: str, setting: str, episodes: int) -> Iterator[tuple[str, str]]:
    """Of the same, what was made of each answer and its target."""
    for url in _stored(output, task, setting):
        yield from ((row.parsed, row.target) for row in read_episodes(url)[0] if row.episode < episodes)


def stored_measures(output: str, task: str, setting: str, episodes: int) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Of the same, where they are drawings, the episode and what was measured of each that became whole."""
    for url in _stored(output, task, setting):
        rows = (row for row in read_measures(url) if row["episode"] < episodes and row["error"] is None)
        yield from ((row["episode"], dict(row["measures"])) for row in rows)


def _stored(output: str, task: str, setting: str) -> list[str]:
    """Files in the order of their episodes."""
    there = finished_files(output, task, setting)
    return [there[index] for index in sorted(there)]


def stored_footer(output: str, task: str, setting: str) -> dict[str, Any] | None:
    """What made the first file of a setting; None where there is none."""
    there = finished_files(output, task, setting)
    return read_footer(there[min(there)]) if there else None
