"""Making files of episodes: draw, ask, score, publish.

A file is made at once, whole or not at all: a rerun asks what is missing, and however many are made side by side, the
rows are the same.
"""

import logging
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol

from jobs.episodes.files import EpisodeFile, EpisodesRun
from jobs.retries import persistently
from spae.incontext.episodes import Episode, EpisodeRow, Question, read_episodes, write_episodes
from spae.incontext.language_model import Answer, AnswerLimits, LanguageModel
from spae.incontext.tasks import Task
from spae.incontext.text import one_line

_CLOSED_TOKENS = 64  # a name takes fewer; what the paper allows is meant for free text
_FAILURES_IN_A_ROW = 8  # files after which the trouble is not theirs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AskedQuestion:
    """A question in its episode."""

    episode: Episode
    number: int
    question: Question

    @property
    def place(self) -> tuple[int, int]:
        """Of episode and question, as rows have it."""
        return self.episode.number, self.number


class Answerer(Protocol):
    """What answers questions: a language model by their prompts, or a reference by their pictures."""

    @property
    def revision(self) -> str:
        """What it says of itself, once it has answered."""

    def answer(self, asked: Sequence[AskedQuestion], limits: AnswerLimits) -> list[Answer]:
        """One answer a question, in their order; a question that gets none has an error."""


@dataclass(frozen=True)
class PromptReader:
    """A language model as one who answers; it sees the prompts alone."""

    model: LanguageModel

    @property
    def revision(self) -> str:
        """The model's."""
        return self.model.revision

    def answer(self, asked: Sequence[AskedQuestion], limits: AnswerLimits) -> list[Answer]:
        """The model's answers."""
        return self.model.answer([one.question.prompt for one in asked], limits)


@dataclass(frozen=True)
class AskingJob:
    """What is asked, and where its rows go.

    Attributes:
        run: the files.
        task: draws and scores.
        seed: of the task's episodes, for the rows.
        closed: whether an answer can only be one of the episode's names.
    """

    run: EpisodesRun
    task: Task
    seed: int
    closed: bool = False
    _drawing: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def limits(self, setting: str, names: tuple[str, ...]) -> AnswerLimits:
        """How an answer is asked for; closed, if that is wanted, to these names."""
        limits = self.task.limits(setting)
        if not self.closed:
            return limits
        return replace(limits, allowed=tuple(map(one_line, names)), most_tokens=max(limits.most_tokens, _CLOSED_TOKENS))

    def ask(self, file: EpisodeFile, answerer: Answerer) -> list[EpisodeRow]:
        """Publish the rows of a file; asks what it does not hold yet, or holds as errors."""
        with self._drawing:  # tasks keep what they have read, and know nothing of threads
            numbers = range(file.first, file.stop)
            self.task.prepare(file.setting, numbers)
            episodes = [self.task.episode(file.setting, number) for number in numbers]
        asked = [AskedQuestion(episode, n, one) for episode in episodes for n, one in enumerate(episode.questions)]
        rows = self._answered(file, asked)
        for one, answer in self._answers(file.setting, [one for one in asked if one.place not in rows], answerer):
            rows[one.place] = self._row(file.setting, one, answer)
        made = [rows[one.place] for one in asked]
        revision = self.run.footer.get("llm_revision") or answerer.revision  # a server's is known once it has answered
        footer = {**self.run.footer, "llm_revision": revision, "episodes": len(episodes)}
        persistently("publishing episodes", lambda: write_episodes(self.run.url(file), made, footer))
        return made

    def _answered(self, file: EpisodeFile, asked: Sequence[AskedQuestion]) -> dict[tuple[int, int], EpisodeRow]:
        """Rows that stand in the file already and have an answer to the same prompt."""
        try:
            stored = read_episodes(self.run.url(file))[0]
        except FileNotFoundError:
            return {}
        prompts = {one.place: one.question.prompt.text for one in asked}
        return {
            place: row
            for row in stored
            if row.error is None and prompts.get(place := (row.episode, row.query)) == row.prompt
        }

    def _answers(
        self, setting: str, asked: Sequence[AskedQuestion], answerer: Answerer
    ) -> Iterator[tuple[AskedQuestion, Answer]]:
        groups: dict[tuple[str, ...], list[AskedQuestion]] = {}
        for one in asked:
            if one.question.error:
                yield one, Answer("", 0, 0, 0.0, one.question.error)
            else:
                groups.setdefault(one.episode.names if self.closed else (), []).append(one)
        for names, members in groups.items():
            for one, answer in zip(members, answerer.answer(members, self.limits(setting, names)), strict=True):
                yield one, self._checked(answer, names)

    def _checked(self, answer: Answer, allowed: Sequence[str]) -> Answer:
        """The answer, or the error that it is none of the allowed ones; a server may not have been told them."""
        if answer.error or not allowed or self.task.parse(answer.text) in map(self.task.parse, allowed):
            return answer
        error = f"{answer.text[:80]!r} came out, which is none of the {len(allowed)} allowed texts"
        return replace(answer, text="", error=error)

    def _row(self, setting: str, asked: AskedQuestion, answer: Answer) -> EpisodeRow:
        episode, question = asked.episode, asked.question
        parsed = "" if answer.error else self.task.parse(answer.text)
        return EpisodeRow(
            episode=episode.number,
            query=asked.number,
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


@dataclass(frozen=True)
class AskedFile:
    """What became of a file: its questions without an answer, or why it does not stand."""

    file: EpisodeFile
    errors: int
    reason: str = ""


def ask_files(job: AskingJob, files: Iterable[EpisodeFile], answerers: Sequence[Answerer]) -> Iterator[AskedFile]:
    """Make files, one at a time of each who answers; yields what became of each as it ends.

    RuntimeError where so many in a row fail that the trouble is not theirs.
    """
    failures = 0
    for asked in _outcomes(job, iter(files), answerers):
        failures = failures + 1 if asked.reason else 0
        if failures == _FAILURES_IN_A_ROW:
            raise RuntimeError(f"{failures} files of episodes in a row have failed, the last by: {asked.reason}")
        yield asked


def _outcomes(job: AskingJob, files: Iterator[EpisodeFile], answerers: Sequence[Answerer]) -> Iterator[AskedFile]:
    if len(answerers) <= 1:  # none where there is no file
        yield from (_outcome(job, file, answerers[0]) for file in files)
        return
    idle = queue.SimpleQueue[Answerer]()
    for answerer in answerers:
        idle.put(answerer)

    def make(file: EpisodeFile) -> AskedFile:
        answerer = idle.get()
        try:
            return _outcome(job, file, answerer)
        finally:
            idle.put(answerer)

    with ThreadPoolExecutor(len(answerers)) as pool:
        running: set[Future[AskedFile]] = {pool.submit(make, file) for file in islice(files, len(answerers))}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(make, file) for file in islice(files, len(done))}
            yield from (future.result() for future in done)


def _outcome(job: AskingJob, file: EpisodeFile, answerer: Answerer) -> AskedFile:
    try:
        return AskedFile(file, sum(row.error is not None for row in job.ask(file, answerer)))
    except Exception as error:  # of whatever library model, worker or store need: the other files go on
        logger.error("%s gets no rows: %s", job.run.url(file), reason := str(error) or repr(error))
        return AskedFile(file, 0, reason)
