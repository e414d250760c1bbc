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
from typing import Any, Literal

import tyro

from jobs.episodes.asking import AskingJob, EpisodeFile, ask_here
from jobs.episodes.words import labelled_words
from spae import __version__
from spae.data.publishing import absolute, join, publish
from spae.data.records import load_class_names
from spae.incontext import LanguageModel, open_language_model
from spae.incontext.prompts import PROMPT_FORMS, SETTINGS
from spae.incontext.summary import as_document, summarise
from spae.incontext.tasks import FewShotTask, NameKind
from spae.model import SPAE
from spae.progress import tracked
from spae.pyramid import check_layers

TASKS: dict[str, NameKind] = {"few-shot-real": "real", "few-shot-made-up": "made-up", "few-shot-other": "other"}
"""Few-shot classification by what classes are called."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class IncontextFlags:
    """Which pictures are asked about, of which language model."""

    model: str
    """Model folder, by path, URL or hub id."""
    shards: str
    """Split whose pictures are asked about; its classes.parquet names the labels."""
    support_shards: str
    """Split whose pictures are the examples."""
    llm: str
    """nearest-context (no model: the floor), http(s)://HOST/v1, a local folder, a hub id, or FILE.gguf."""
    output: str
    """Folder for rows and summary.json."""
    task: Literal["few-shot-real", "few-shot-made-up", "few-shot-other"] = "few-shot-made-up"
    """real: the classes' own names. made-up: dax, blicket and others, which only the examples explain. other: names of
    things that are not shown."""
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

    @property
    def chosen(self) -> tuple[str, ...]:
        """The settings, all written out."""
        return tuple(SETTINGS) if self.settings == ("all",) else self.settings


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
        for setting in flags.chosen:
            task.episode(setting, 0)  # what cannot be drawn is told before anything is loaded
        language_model = open_language_model(flags.llm, name=flags.llm_name)
        job = make_job(flags, model, task, language_model)
        todo = [file for setting in flags.chosen for file in job.missing(setting, flags.episodes)]
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


def make_task(flags: IncontextFlags, model: SPAE) -> FewShotTask:
    """The task on the words of both splits."""
    support, scored = (
        labelled_words(model, shards, flags.layers, flags.batch) for shards in (flags.support_shards, flags.shards)
    )
    return FewShotTask(
        support=support,
        scored=scored,
        class_names=load_class_names(flags.shards),
        seed=flags.seed,
        names=TASKS[flags.task],
        form=flags.form,
        queries=flags.queries,
    )


def make_job(flags: IncontextFlags, model: SPAE, task: FewShotTask, language_model: LanguageModel) -> AskingJob:
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


def _show_plan(task: FewShotTask, flags: IncontextFlags, todo: Sequence[EpisodeFile], model: LanguageModel) -> None:
    prompts = [task.episode(setting, 0).questions[0].prompt.text for setting in flags.chosen]
    longest = max(model.count_tokens(prompt) for prompt in prompts)
    queries = sum(file.stop - file.first for file in todo) * flags.queries
    logger.info("%d settings, %d queries to ask of %s", len(flags.chosen), queries, model.name)
    logger.info("prompts of up to %d tokens, of %d that fit", longest, model.context_tokens)
    sys.stdout.write(f"{prompts[0]}\n")


def _report(job: AskingJob, flags: IncontextFlags, model: LanguageModel) -> int:
    document: dict[str, Any] = {"protocol": {**job.footer, **dataclasses.asdict(flags)}, job.task.name: {}}
    errors = 0
    for setting in flags.chosen:
        summary = summarise(job.rows(setting, flags.episodes))
        errors += summary.errors
        document[job.task.name][setting] = {**as_document(summary), "chance": job.task.chance(setting)}
        sys.stdout.write(
            f"{setting:44} {100 * summary.mean:5.1f}% [{100 * summary.low:5.1f}%, {100 * summary.high:5.1f}%]  "
            f"chance {100 * (job.task.chance(setting) or 0):4.1f}%  n {summary.queries}\n"
        )
    publish(join(job.output, "summary.json"), json.dumps(document, indent=1).encode())
    logger.info("%s: %d questions without an answer; %s", model.name, errors, join(job.output, "summary.json"))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
