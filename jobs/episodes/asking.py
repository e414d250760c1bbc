"""Which files of episodes are still to be made, and making one: draw, ask, score, publish.

A file holds so many episodes of one setting and is made by one process, whole or not at all: a rerun asks what is
missing, and any number of workers gives the same rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spae.incontext.episodes import (
    Episode,
    EpisodeRow,
    Question,
    episodes_url,
    finished_files,
    read_episodes,
    read_footer,
    write_episodes,
)
from spae.incontext.language_model import Answer, LanguageModel
from spae.incontext.tasks import Task

EPISODES_A_FILE = 25

_INFORMATION = ("code_version", "episodes")  # of a footer, which redo nothing


@dataclass(frozen=True)
class EpisodeFile:
    """Episodes first..stop of a setting."""

    setting: str
    index: int
    first: int
    stop: int


@dataclass(frozen=True)
class AskingJob:
    """What every worker needs beside the language model.

    Attributes:
        task: draws and scores.
        output: folder of the run.
        seed: of the task's episodes, for the rows.
        footer: what made the rows, as far as it decides them.
    """

    task: Task
    output: str
    seed: int
    footer: Mapping[str, Any]

    def files(self, setting: str, episodes: int) -> list[EpisodeFile]:
        """The files of a setting."""
        starts = range(0, episodes, EPISODES_A_FILE)
        return [
            EpisodeFile(setting, index, first, min(first + EPISODES_A_FILE, episodes))
            for index, first in enumerate(starts)
        ]

    def missing(self, setting: str, episodes: int) -> list[EpisodeFile]:
        """Those that do not stand there yet, or hold fewer episodes; ValueError for a file that another run made."""
        there = finished_files(self.output, self.task.name, setting)
        return [file for file in self.files(setting, episodes) if not self._is_done(file, there.get(file.index))]

    def _is_done(self, file: EpisodeFile, url: str | None) -> bool:
        if url is None:
            return False
        footer = read_footer(url)
        for name, value in self.footer.items():
            if name not in _INFORMATION and footer.get(name) != value:
                raise ValueError(
                    f"{url} has {name} {footer.get(name)!r}, and this run has {value!r}; give another --output"
                )
        return int(footer["episodes"]) >= file.stop - file.first

    def ask(self, file: EpisodeFile, model: LanguageModel) -> list[EpisodeRow]:
        """Ask the episodes of a file and publish their rows."""
        self.task.prepare(file.setting, range(file.first, file.stop))
        episodes = [self.task.episode(file.setting, number) for number in range(file.first, file.stop)]
        questions = [(episode, number, one) for episode in episodes for number, one in enumerate(episode.questions)]
        prompts = [one.prompt for _, _, one in questions if not one.error]
        answers = iter(model.answer(prompts, self.task.limits(file.setting)) if prompts else ())
        rows = [
            self._row(
                file.setting, episode, number, one, Answer("", 0, 0, 0.0, one.error) if one.error else next(answers)
            )
            for episode, number, one in questions
        ]
        url = episodes_url(self.output, self.task.name, file.setting, file.index)
        write_episodes(url, rows, {**self.footer, "episodes": len(episodes)})
        return rows

    def _row(self, setting: str, episode: Episode, number: int, question: Question, answer: Answer) -> EpisodeRow:
        parsed = "" if answer.error else self.task.parse(answer.text)
        return EpisodeRow(
            episode=episode.number,
            query=number,
            seed=self.seed,
            setting=setting,
            query_key=question.key,
            support_keys=episode.support_keys,
            prompt=question.prompt.text,
            answer=answer.text,
            parsed=parsed,
            target=question.target,
            score=0.0 if answer.error else self.task.score(parsed, question.target),
            prompt_tokens=answer.prompt_tokens,
            answer_tokens=answer.answer_tokens,
            seconds=answer.seconds,
            error=answer.error or None,
        )

    def rows(self, setting: str, episodes: int) -> list[EpisodeRow]:
        """All rows of a setting as they stand on disk, the first episodes only."""
        urls = (
            episodes_url(self.output, self.task.name, setting, file.index) for file in self.files(setting, episodes)
        )
        return [row for url in urls for row in read_episodes(url)[0] if row.episode < episodes]


def ask_here(job: AskingJob, files: Sequence[EpisodeFile], model: LanguageModel) -> Iterator[EpisodeFile]:
    """Make the files in this process; yields each when it stands."""
    for file in files:
        job.ask(file, model)
        yield file
