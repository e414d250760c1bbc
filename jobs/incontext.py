"""Let a frozen language model read the words of pictures: few-shot classification as in the paper's Tab. 1.

    python -m jobs.incontext --model runs/demo/model --shards runs/demo/shards/test \\
        --support-shards runs/demo/shards/train --llm SmolLM2-135M-Instruct.Q4_1.gguf --task few-shot-made-up \\
        --settings 5-way-3-shot 5-way-3-shot+permuted-labels --layers 2 --episodes 50 --output runs/demo/incontext

Every query is a row of OUTPUT/TASK/SETTING/episodes-*.parquet, prompt and answer in full; OUTPUT/summary.json has means
with intervals that are clustered by episode. The same command continues a run that was cut.
"""

import dataclasses
import functools
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import tyro

from jobs.episodes.asking import Answerer, AskedFile, AskingJob, PromptModel, PromptReader, ask_files
from jobs.episodes.drawing import DrawingJob
from jobs.episodes.drawing_flags import DrawingFlags, drawing_job
from jobs.episodes.estimates import estimate
from jobs.episodes.files import EpisodeFile, EpisodesRun, stored_footer
from jobs.episodes.language_models import ModelPlace, endpoint_settings, open_workers
from jobs.episodes.references import REFERENCES, open_reference, unseen_control
from jobs.episodes.reports import report_setting, require_pairable, summary_document
from jobs.episodes.task_flags import make_task
from jobs.paths import place, place_or_name
from jobs.resources import ResourcesError
from spae import __version__
from spae.data.publishing import join, publish, read_bytes
from spae.incontext import NearestContext
from spae.model import SPAE
from spae.progress import tracked

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class IncontextFlags(DrawingFlags):
    """Which pictures are asked about, of which language model."""

    llm: str
    """http(s)://HOST/v1, a local folder, a hub id, or FILE.gguf; without one nearest-context or majority-context (the
    words' floors), raw-pixels or k-means-words (those of the pictures)."""
    llm_name: str | None = None
    """Model that an endpoint shall run."""
    closed: bool = False
    """An answer can only be one of the names."""
    workers: int = 0
    """Processes of Ray that hold the language model, each with a GPU where --device is cuda; 0: this process alone. The
    rows do not depend on their number."""
    worker_cpus: float = 1.0
    """CPUs that Ray reserves for a worker."""
    ray_address: str | None = None
    """Cluster to use, else that of RAY_ADDRESS, else one on this machine for this run alone."""
    wait_for_resources: float | None = None
    """Seconds to wait for room for all workers; half an hour by default."""
    concurrency: int = 8
    """Requests at once to an endpoint, of each worker."""
    cache: str | None = None
    """Folder of an endpoint's answers, so that nothing is asked twice."""
    timeout: float = 120.0
    """Seconds that a request to an endpoint may take."""
    retries: int = 4
    """Further attempts at a request to an endpoint."""
    tokenizer: str | None = None
    """Folder, hub id or .gguf file with an endpoint's tokenizer; without it tokens are estimated from bytes."""
    allowed_by: Literal["checking", "allowed_token_ids", "logit_bias"] = "checking"
    """How --closed reaches an endpoint: not at all, or by this option of its, which needs --tokenizer."""
    prompt_price: float = 0.0
    """Of a million tokens, for the estimate."""
    answer_price: float = 0.0
    """Of a million tokens, for the estimate."""
    compare: tuple[str, ...] = ()
    """Outputs of other runs that asked the same questions: the paired difference to each is told."""
    skip_impossible: bool = False
    """Settings that cannot be asked are n/a with the reason, as with --settings all, and no error."""
    retry_errors: bool = False
    """Ask again what has no answer."""
    dry_run: bool = False
    """Print the plan, an estimate of its cost and a prompt, and ask nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers < 0 or self.worker_cpus <= 0:
            raise ValueError(f"--workers {self.workers} must be 0 or more, --worker-cpus {self.worker_cpus} above 0")
        if self.llm in REFERENCES and (self.data is not None or self.workers):
            raise ValueError(f"--llm {self.llm} answers few-shot tasks on --shards in this process, without --workers")
        if self.draws and (self.llm in REFERENCES or self.closed):
            raise ValueError(f"--task {self.task} takes neither --llm {' nor '.join(REFERENCES)}, nor --closed")


@dataclass(frozen=True)
class Plan:
    """What is to be asked.

    Attributes:
        model: the tokenizer.
        job: the run.
        settings: that can be asked.
        meaningless: why others cannot, by setting.
        todo: files to make.
    """

    model: SPAE
    job: AskingJob | DrawingJob
    settings: tuple[str, ...]
    meaningless: Mapping[str, str]
    todo: Sequence[EpisodeFile]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where questions got no answer, 2 for unusable arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for own in (__name__, "jobs", "spae"):
        logging.getLogger(own).setLevel(logging.INFO)
    try:
        flags = tyro.cli(IncontextFlags, args=arguments, description=__doc__)
        plan = make_plan(flags)
        if flags.dry_run:
            _show_plan(plan, flags)
            return 0
        files = open_and_ask(plan, flags)
    except ResourcesError as error:
        logger.error("%s", error)
        return 1
    except (ValueError, OSError, RuntimeError) as error:
        logger.error("%s", error)
        return 2
    failed = 0
    try:
        asked = sum(map(len, plan.todo))
        for one in tracked(files, asked, "episode", lambda one: len(one.file)):
            failed += bool(one.reason)
    except RuntimeError as error:
        logger.error("%s; what is finished stays, and the same command continues", error)
        return 1
    return max(_report(plan, flags), int(failed > 0))


def make_plan(flags: IncontextFlags) -> Plan:
    """What is to be asked; words are read where something is. ValueError where it cannot be done."""
    output = place("--output", flags.output)
    compared = [place("--compare", other) for other in flags.compare]
    model = SPAE.from_pretrained(place_or_name("--model", flags.model), "cpu" if flags.workers else flags.device)
    job = make_job(flags, model, output)
    run, task = job.run, job.task
    todo, meaningless = list[EpisodeFile](), dict[str, str]()
    for setting in flags.chosen(task.settings):
        missing = run.missing(setting, flags.episodes, retry_errors=flags.retry_errors)
        if missing and (reason := _objection(flags, job, setting)):
            if not (flags.everything or flags.skip_impossible):
                raise ValueError(reason)
            meaningless[setting] = reason
        else:
            todo += missing
    settings = tuple(setting for setting in flags.chosen(task.settings) if setting not in meaningless)
    if not settings:
        raise ValueError(f"no setting of {task.name} can be asked: {next(iter(meaningless.values()))}")
    for other in compared:
        require_pairable(run, settings, other)
    return Plan(model, job, settings, meaningless, todo)


def make_job(flags: IncontextFlags, model: SPAE, output: str) -> AskingJob | DrawingJob:
    """The task and its files; ValueError where it cannot be made."""
    footer = _footer(flags, model)
    if flags.draws:
        return drawing_job(flags, model, {**footer, **flags.deciding(model)})
    task = make_task(flags, model)
    return AskingJob(EpisodesRun(output, task.name, {**footer, **task.provenance}), task, flags.seed, flags.closed)


def open_and_ask(plan: Plan, flags: IncontextFlags) -> Iterator[AskedFile]:
    """Open who answers, and make the files as they are taken; ValueError and ResourcesError as in `open_workers`."""
    if not plan.todo:
        return iter(())
    job = plan.job
    if isinstance(job, DrawingJob):
        return ask_files([functools.partial(job.ask, answerer=model) for model in open_models(plan, flags)], plan.todo)
    if flags.llm in REFERENCES:
        support, shards = flags.support_shards or "", flags.shards or ""
        answerers: list[Answerer] = [open_reference(flags.llm, plan.model, support, shards, flags.layers)]
    else:
        answerers = [PromptReader(model) for model in open_models(plan, flags)]
    return ask_files([functools.partial(job.ask, answerer=answerer) for answerer in answerers], plan.todo)


def open_models(plan: Plan, flags: IncontextFlags) -> Sequence[PromptModel]:
    """The language model, once for each file that is made at a time; errors as in `open_workers`."""
    if not flags.workers:
        return [_model_place(flags).open()]
    workers = min(flags.workers, len(plan.todo))
    return open_workers(_model_place(flags), workers, flags.worker_cpus, flags.ray_address, flags.wait_for_resources)


def _model_place(flags: IncontextFlags) -> ModelPlace:
    if "://" not in flags.llm:
        return ModelPlace(place_or_name("--llm", flags.llm), flags.llm_name, flags.device)
    settings = endpoint_settings(
        folder=None if flags.cache is None else place("--cache", flags.cache),
        tokenizer=None if flags.tokenizer is None else place_or_name("--tokenizer", flags.tokenizer),
        **{name: getattr(flags, name) for name in ("concurrency", "timeout", "retries", "allowed_by")},
    )
    return ModelPlace(flags.llm, flags.llm_name, endpoint=settings)


def _footer(flags: IncontextFlags, model: SPAE) -> dict[str, Any]:
    """What decides the rows."""
    name, revision = REFERENCES[flags.llm] if flags.llm in REFERENCES else _model_place(flags).identity()
    return {
        "model_fingerprint": model.fingerprint,
        "words_fingerprint": model.vocabulary.words_fingerprint,
        "llm": name,
        "llm_revision": revision,
        "form": flags.form,
        "layers": flags.layers,
        "queries": flags.queries,
        "seed": flags.seed,
        **({"closed": True} if flags.closed else {}),
        "code_version": __version__,
    }


def _objection(flags: IncontextFlags, job: AskingJob | DrawingJob, setting: str) -> str:
    """Why a setting cannot be asked; empty where it can."""
    if flags.llm in REFERENCES and (reason := unseen_control(flags.llm, setting)):
        return reason
    return job.objection(setting, 0) or job.objection(setting, flags.episodes - 1)


def _show_plan(plan: Plan, flags: IncontextFlags) -> None:
    job = plan.job
    for setting, reason in plan.meaningless.items():
        logger.info("%s is n/a: %s", setting, reason)
    counter = NearestContext() if flags.llm in REFERENCES else _model_place(flags).token_counter()
    found = estimate(job, plan.todo, counter)
    logger.info("%d settings, %d queries to ask of %s", len(plan.settings), found.questions, job.run.footer["llm"])
    if flags.llm not in REFERENCES:
        cost = f", at most {found.cost(flags.prompt_price, flags.answer_price):.2f} at the given prices"
        logger.info("prompts of up to %d tokens, of %d that fit", found.longest, counter.context_tokens)
        logger.info(
            "about %d prompt tokens and at most %d answer tokens%s",
            *(found.prompt_tokens, found.answer_tokens, cost if flags.prompt_price or flags.answer_price else ""),
        )
    if plan.settings:
        sys.stdout.write(f"{job.prompts(plan.settings[0], 0)[0][0]}\n")


def _report(plan: Plan, flags: IncontextFlags) -> int:
    job, run = plan.job, plan.job.run
    reports: dict[str, Any] = {}
    missing = dict(plan.meaningless)
    errors, footer = 0, run.footer
    for setting in plan.settings:
        try:
            found = report_setting(job, setting, flags.episodes, plan.settings, flags.compare)
        except ValueError as error:  # its files have all failed
            missing[setting] = str(error)
            continue
        errors += found.summary.errors
        reports[setting] = found.document()
        sys.stdout.write("".join(f"{line}\n" for line in found.lines()))
        footer = stored_footer(run.output, run.task, setting) or footer
    for setting, reason in missing.items():
        reports[setting] = {"n/a": reason}
        sys.stdout.write(f"{setting:44} n/a: {reason}\n")
    url = join(run.output, "summary.json")
    protocol = {**footer, **dataclasses.asdict(flags)}
    if isinstance(job, DrawingJob):
        protocol["judge"] = judge = job.ceiling()
        shares = "{real:.1%} of real and {rebuilt:.1%} of rebuilt pictures".format(**judge)
        sys.stdout.write(f"the judge is right of {shares}, n {judge['pictures']}\n")
    document = summary_document(read_bytes(url), protocol, footer.keys(), run.task, reports)
    publish(url, json.dumps(document, indent=1).encode())
    logger.info("%s: %d questions without an answer; %s", footer["llm"], errors, url)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
