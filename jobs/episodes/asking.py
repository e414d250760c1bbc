"""Making files of episodes: draw, ask, score, publish.

A file is made at once, whole or not at all: a rerun asks what is missing, and however many are made side by side, the
rows are the same.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol

from jobs.episodes.files import EpisodeFile, EpisodesRun, stored_answers
from jobs.retries import persistently
from spae.incontext.episodes import Episode, EpisodeRow, Question, read_episodes, write_episodes
from spae.incontext.language_model import Answer, AnswerLimits, Prompt
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


class PromptModel(Protocol):
    """A language model as far as it is asked, here or in another process."""

    @property
    def revision(self) -> str:
        """What it says of itself, once it has answered."""

    def answer(self, prompts: Sequence[Prompt], limits: AnswerLimits) -> list[Answer]:
        """One answer a prompt, in their order; a prompt that gets none has an error."""


@dataclass(frozen=True)
class PromptReader:
    """A language model as one who answers; it sees the prompts alone."""

    model: PromptModel

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

    def prompts(self, setting: str, number: int) -> list[tuple[str, int]]:
        """Text of each prompt of an episode, and the most tokens of its answer."""
        episode = self.task.episode(setting, number)
        most = self.limits(setting, episode.names).most_tokens
        return [(question.prompt.text, most) for question in episode.questions if not question.error]

    def corpus_scores(self, setting: str, episodes: int) -> Mapping[str, float]:
        """What is measured of all answers together, by name."""
        return self.task.corpus_scores(stored_answers(self.run.output, self.run.task, setting, episodes))

    def objection(self, setting: str, number: int) -> str:
        """Why an episode cannot be asked; empty where it can."""
        try:
            episode = self.task.episode(setting, number)
        except ValueError as error:
            return str(error)
        if self.closed and not episode.names:
            return f"--closed: answers to {self.task.name} are free text, and there are no names to mask them to"
        return ""

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


FileMaker = Callable[[EpisodeFile], Sequence[EpisodeRow]]
"""A job's `ask`, by who answers it."""


def ask_files(makers: Sequence[FileMaker], files: Iterable[EpisodeFile]) -> Iterator[AskedFile]:
    """Make files, each maker one at a time; yields what became of each as it ends.

    RuntimeError where so many in a row fail that the trouble is not theirs.
    """
    failures = 0
    for asked in _outcomes(makers, iter(files)):
        failures = failures + 1 if asked.reason else 0
        if failures == _FAILURES_IN_A_ROW:
            raise RuntimeError(f"{failures} files of episodes in a row have failed, the last by: {asked.reason}")
        yield asked


def _outcomes(makers: Sequence[FileMaker], files: Iterator[EpisodeFile]) -> Iterator[AskedFile]:
    if len(makers) <= 1:  # none where there is no file
        yield from (_outcome(makers[0], file) for file in files)
        return
    idle = queue.SimpleQueue[FileMaker]()
    for maker in makers:
        idle.put(maker)

    def made(file: EpisodeFile) -> AskedFile:
        maker = idle.get()
        try:
            return _outcome(maker, file)
        finally:
            idle.put(maker)

    with ThreadPoolExecutor(len(makers)) as pool:
        running: set[Future[AskedFile]] = {pool.submit(made, file) for file in islice(files, len(makers))}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(made, file) for file in islice(files, len(done))}
            yield from (future.result() for future in done)


def _outcome(make: FileMaker, file: EpisodeFile) -> AskedFile:
    try:
        return AskedFile(file, sum(row.error is not None for row in make(file)))
    except Exception as error:  # of whatever library model, worker or store need: the other files go on
        reason = str(error) or repr(error)
        logger.error("file %d of %s gets no rows: %s", file.index, file.setting, reason)
        return AskedFile(file, 0, reason)
