"""Let a frozen language model read the words of pictures: few-shot classification as in the paper's Tab. 1.

    python -m jobs.incontext --model runs/demo/model --shards runs/demo/shards/test \\
        --support-shards runs/demo/shards/train --llm SmolLM2-135M-Instruct.Q4_1.gguf --task few-shot-made-up \\
        --settings 5-way-3-shot 5-way-3-shot+permuted-labels --layers 2 --episodes 50 --output runs/demo/incontext

Every query is a row of OUTPUT/TASK/SETTING/episodes-*.parquet, prompt and answer in full; OUTPUT/summary.json has means
with intervals that are clustered by episode. The same command continues a run that was cut.
"""

import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from jobs.episodes.asking import AskingJob, EpisodeFile, ask_here
from jobs.episodes.folder_words import FolderWords
from jobs.episodes.words import labelled_words
from spae import __version__
from spae.data.publishing import absolute, join, publish
from spae.data.records import load_class_names
from spae.incontext import LanguageModel, open_language_model
from spae.incontext.prompts import PROMPT_FORMS
from spae.incontext.summary import as_document, summarise
from spae.incontext.tasks import LABELLED_TASKS, RELEASED_TASKS, TASKS, LabelledSplits, ReleasedData, Task
from spae.model import SPAE
from spae.progress import tracked
from spae.pyramid import check_layers

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class IncontextFlags:
    """Which pictures are asked about, of which language model."""

    model: str
    """Model folder, by path, URL or hub id."""
    llm: str
    """nearest-context (no model: the floor), http(s)://HOST/v1, a local folder, a hub id, or FILE.gguf."""
    output: str
    """Folder for rows and summary.json."""
    task: Annotated[str, tyro.conf.arg(metavar="|".join(TASKS))] = "few-shot-made-up"
    """few-shot-real: the classes' own names. few-shot-made-up: dax, blicket and others, which only the examples
    explain. few-shot-other: names of things that are not shown. All others are on released files."""
    shards: str | None = None
    """Split whose pictures are asked about; its classes.parquet names the labels. For few-shot tasks."""
    support_shards: str | None = None
    """Split whose pictures are the examples. For few-shot tasks."""
    data: str | None = None
    """Folder of the released files and their pictures. For tasks on released files."""
    llm_name: str | None = None
    """Model that an endpoint shall run."""
    settings: tuple[str, ...] = ("all",)
    """Columns of Tab. 1 such as 5-way-3-shot, all of them by default; with +permuted-labels, +shuffled-words or
    +names-as-words a control."""
    layers: int = 2
    """First layers whose words are told."""
    episodes: int = 50
    """Supports a setting."""
    queries: int = 8
    """Pictures asked about of one support."""
    seed: int = 0
    """Of all episodes."""
    form: str = "lqae"
    """Wording of the prompt: lqae or frozen."""
    batch: int = 64
    """Pictures of every pass of the model."""
    device: Literal["cpu", "cuda"] = "cpu"
    dry_run: bool = False
    """Print the plan with the first prompt, and ask nothing."""

    def __post_init__(self) -> None:
        for name in ("layers", "episodes", "queries", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} {getattr(self, name)} must be at least 1")
        if self.form not in PROMPT_FORMS:
            raise ValueError(f"--form {self.form!r} is none of {', '.join(PROMPT_FORMS)}")
        if self.task not in TASKS:
            raise ValueError(f"--task {self.task!r} is none of {', '.join(TASKS)}")
        self._check_places()

    def _check_places(self) -> None:
        places = {"--data": self.data, "--shards": self.shards, "--support-shards": self.support_shards}
        wanted = ("--data",) if self.task in RELEASED_TASKS else ("--shards", "--support-shards")
        if {name for name, place in places.items() if place is not None} != set(wanted):
            raise ValueError(f"--task {self.task} takes {' and '.join(wanted)}, and no other of {', '.join(places)}")

    def chosen(self, task: Task) -> tuple[str, ...]:
        """The settings, all written out."""
        return tuple(task.settings) if self.settings == ("all",) else self.settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where questions got no answer, 2 for unusable arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for own in (__name__, "jobs", "spae"):
        logging.getLogger(own).setLevel(logging.INFO)
    try:
        flags = tyro.cli(IncontextFlags, args=arguments, description=__doc__)
        model = SPAE.from_pretrained(flags.model, flags.device)
        check_layers(flags.layers, model.depth)
        task = make_task(flags, model)
        for setting in flags.chosen(task):
            for number in (0, flags.episodes - 1):
                task.episode(setting, number)  # what cannot be drawn is told before anything is loaded
        language_model = open_language_model(flags.llm, name=flags.llm_name)
        job = make_job(flags, model, task, language_model)
        todo = [file for setting in flags.chosen(task) for file in job.missing(setting, flags.episodes)]
    except (ValueError, OSError, RuntimeError) as error:
        logger.error("%s", error)
        return 2
    if flags.dry_run:
        _show_plan(task, flags, todo, language_model)
        return 0
    asked = sum(file.stop - file.first for file in todo)
    for _ in tracked(ask_here(job, todo, language_model), asked, "episode", lambda file: file.stop - file.first):
        pass
    return _report(job, flags, language_model)


def make_task(flags: IncontextFlags, model: SPAE) -> Task:
    """The task on the words of both splits, or on released files."""
    if flags.data is not None:
        words = FolderWords(model, flags.data, flags.batch)
        data = ReleasedData(folder=flags.data, words=words, layers=flags.layers, seed=flags.seed, form=flags.form)
        return RELEASED_TASKS[flags.task](data)
    assert flags.shards is not None
    assert flags.support_shards is not None
    splits = LabelledSplits(
        support=labelled_words(model, flags.support_shards, flags.layers, flags.batch),
        scored=labelled_words(model, flags.shards, flags.layers, flags.batch),
        class_names=load_class_names(flags.shards),
        seed=flags.seed,
        form=flags.form,
        queries=flags.queries,
    )
    return LABELLED_TASKS[flags.task](splits)


def make_job(flags: IncontextFlags, model: SPAE, task: Task, language_model: LanguageModel) -> AskingJob:
    """The run, and what its files say of it."""
    footer = {
        "model_fingerprint": model.fingerprint,
        "words_fingerprint": model.vocabulary.words_fingerprint,
        "llm": language_model.name,
        "llm_revision": language_model.revision,
        "form": flags.form,
        "layers": flags.layers,
        "queries": flags.queries,
        "seed": flags.seed,
        "code_version": __version__,
    }
    return AskingJob(task, absolute(flags.output), flags.seed, footer)


def _show_plan(task: Task, flags: IncontextFlags, todo: Sequence[EpisodeFile], model: LanguageModel) -> None:
    first = {setting: task.episode(setting, 0).questions for setting in flags.chosen(task)}
    prompts = [questions[0].prompt.text for questions in first.values()]
    longest = max(model.count_tokens(prompt) for prompt in prompts)
    queries = sum((file.stop - file.first) * len(first[file.setting]) for file in todo)
    logger.info("%d settings, %d queries to ask of %s", len(first), queries, model.name)
    logger.info("prompts of up to %d tokens, of %d that fit", longest, model.context_tokens)
    sys.stdout.write(f"{prompts[0]}\n")


def _report(job: AskingJob, flags: IncontextFlags, model: LanguageModel) -> int:
    document: dict[str, Any] = {"protocol": {**job.footer, **dataclasses.asdict(flags)}, job.task.name: {}}
    errors = 0
    for setting in flags.chosen(job.task):
        rows = job.rows(setting, flags.episodes)
        summary, chance = summarise(rows), job.task.chance(setting)
        together = job.task.corpus_scores([(row.parsed, row.target) for row in rows])
        errors += summary.errors
        document[job.task.name][setting] = {**as_document(summary), "chance": chance, **together}
        sys.stdout.write(
            f"{setting:44} {100 * summary.mean:5.1f}% [{100 * summary.low:5.1f}%, {100 * summary.high:5.1f}%]  "
            + ("" if chance is None else f"chance {100 * chance:4.1f}%  ")
            + "".join(f"{name} {value:.4f}  " for name, value in together.items())
            + f"n {summary.queries}\n"
        )
    publish(join(job.output, "summary.json"), json.dumps(document, indent=1).encode())
    logger.info("%s: %d questions without an answer; %s", model.name, errors, join(job.output, "summary.json"))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
