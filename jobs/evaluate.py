"""Score a model on a split, and write the figures with the protocol that gave them.

    python -m jobs.evaluate --model runs/demo/model --shards runs/demo/shards/test --output runs/demo/test.json
    python -m jobs.evaluate --model model --shards shards/val --judges inception-v3 --workers 4 --output val.json

PSNR and SSIM for every number of layers, word usage, first words; with --judges the figures of frozen networks, such as
FID; with --train-shards what the training split alone can do; with --clip CLIP's own accuracy and its score of the
words.
"""

import dataclasses
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import tyro

from jobs.cluster import connect
from jobs.paths import place, place_or_name
from jobs.reporting.clips import example_strip
from jobs.reporting.comparison import compared_figures, comparison_text, require_same_protocol
from jobs.reporting.scores import score_document
from jobs.resources import ResourcesError
from jobs.scoring.drawing import draw_examples
from jobs.scoring.flags import EvaluateFlags
from jobs.scoring.options import learnt_baselines, make_options, stored_tokens
from jobs.scoring.pages import score_markdown, score_plot
from jobs.scoring.parts import PartFolder, ReferenceFolder
from jobs.scoring.protocol import protocol_of, run_identity
from jobs.scoring.scorer import ShardScorer, judge_identities, known_references, merged_parts
from jobs.tokens.actors import FailureWatch, ModelActors, load_for_actor
from jobs.tokens.pool import ActorPool
from spae.data.publishing import publish, read_bytes
from spae.data.records import ShardInfo, SplitIndex, load_index
from spae.evaluation.judging import statistics_sha256
from spae.evaluation.reconstruction import SplitOptions
from spae.figures import png_bytes, usage_figure
from spae.model import SPAE
from spae.progress import tracked

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where work failed, 2 for unusable arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for own in (__name__, "jobs", "spae"):  # open_clip tells its steps to the root logger
        logging.getLogger(own).setLevel(logging.INFO)
    try:
        flags = _placed(tyro.cli(EvaluateFlags, args=arguments, description=__doc__))
        others = [_other_document(url) for url in flags.compare]
        model = SPAE.from_pretrained(flags.model, "cpu" if flags.workers else flags.device)
        index = _first_shards(flags.shards, flags.limit)
        options = make_options(flags, model)
        if flags.dry_run:
            _show_plan(index, _unfinished(index, _part_folder(flags, options, model)), options)
            return 0
        if flags.train_shards is not None:
            options = dataclasses.replace(options, baselines=learnt_baselines(flags, model))
    except (ValueError, OSError, RuntimeError) as error:  # torch raises RuntimeError for a device that is not there
        logger.error("%s", error)
        return 2
    try:
        document, counts = evaluate(model, index, options, flags)
        require_same_protocol([document, *others])
        publish(flags.output, json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")
        if flags.judges or flags.pages:
            _write_pages(document, counts, index, model, flags)
    except (ValueError, OSError, ResourcesError) as error:
        logger.error("%s", error)
        return 1
    except Exception:  # whatever Ray or a store raises: what is finished stays, and the same command continues
        logger.exception("the run failed; give the same command again to continue it")
        return 1
    return _report(document, others, index, flags)


def evaluate(
    model: SPAE, index: SplitIndex, options: SplitOptions, flags: EvaluateFlags
) -> tuple[dict[str, Any], list[list[int]]]:
    """Score a split: the document with protocol and figures, and how often each layer uses each word.

    ValueError where a shard or a table is damaged.
    """
    identities = judge_identities(index, options, model.config.input_size, flags.device, flags.frame_stride)
    folder = ReferenceFolder(flags.references) if flags.references else None
    references = known_references(folder, identities, options) if folder else None
    options = dataclasses.replace(options, count_originals=references is None)
    parts = _part_folder(flags, options, model)
    todo = _unfinished(index, parts)
    if len(todo) < len(index.shards):
        logger.info("%d of %d shards are scored already", len(index.shards) - len(todo), len(index.shards))
    if flags.workers is None:
        scoring = _score_here(model, options, flags, parts, todo)
    else:
        scoring = _score_on_cluster(ActorWork(flags, model.fingerprint, parts, references is None), options, todo)
    for _ in tracked(scoring, sum(shard.samples for shard in todo), "image", int):
        pass
    whole, devices = merged_parts(model, options, index, parts)
    seen = whole.originals if references is None else references
    if folder is not None and references is None:
        for name, one in whole.originals.items():
            folder.write(name, identities[name], one)
    score = whole.compute(seen)
    protocol = protocol_of(flags, index, model, options, devices, statistics_sha256(seen))
    return {"protocol": protocol, **score_document(score, model)}, whole.usage.counts.tolist()


def _score_here(
    model: SPAE, options: SplitOptions, flags: EvaluateFlags, parts: PartFolder, todo: Sequence[ShardInfo]
) -> Iterator[int]:
    tokens = None if flags.tokens is None else stored_tokens(flags.tokens, model, flags.frame_stride)
    scorer = ShardScorer(model, options, flags.batch, parts, tokens, flags.frame_stride)
    for shard in todo:
        yield from scorer.score(shard)


@dataclass(frozen=True)
class ActorWork:
    """What actors need to know.

    Attributes:
        flags: of the run.
        model_fingerprint: that the model must have wherever it is loaded.
        parts: where statistics go.
        count_originals: as in `SplitOptions`.
        baselines: where Ray keeps what the training split gave; empty without one.
    """

    flags: EvaluateFlags
    model_fingerprint: str
    parts: PartFolder
    count_originals: bool
    baselines: tuple[Any, ...] = ()


class _ScoringActor:
    """Holds model and judges: a shard in, the shard and what went wrong out."""

    def __init__(self, work: ActorWork) -> None:
        flags = work.flags
        model = load_for_actor(flags.model, work.model_fingerprint, flags.device)
        baselines = ray.get(work.baselines[0]) if work.baselines else None
        options = dataclasses.replace(
            make_options(flags, model), baselines=baselines, count_originals=work.count_originals
        )
        tokens = None if flags.tokens is None else stored_tokens(flags.tokens, model, flags.frame_stride)
        self._scorer = ShardScorer(model, options, flags.batch, work.parts, tokens, flags.frame_stride)

    def score(self, shard: ShardInfo) -> tuple[ShardInfo, str]:
        try:
            for _ in self._scorer.score(shard):
                pass
        except Exception as error:  # of whatever library store or device need: the other shards go on
            return shard, str(error) or repr(error)
        return shard, ""


def _score_on_cluster(work: ActorWork, options: SplitOptions, todo: Sequence[ShardInfo]) -> Iterator[int]:
    if not todo:
        return
    flags = work.flags
    actors = ModelActors(
        workers=min(flags.workers or 1, len(todo)),
        cpus=flags.worker_cpus,
        device=flags.device,
        wait_for_resources=flags.wait_for_resources,
    )
    may_grow = connect(flags.ray_address, num_cpus=actors.local_cpus)
    fitting = actors.fitting(may_grow)
    actors = actors if may_grow else dataclasses.replace(actors, workers=fitting)
    if options.baselines is not None:
        work = dataclasses.replace(work, baselines=(ray.put(options.baselines),))
    pool: ActorPool[ShardInfo, tuple[ShardInfo, str]] = ActorPool(
        lambda: actors.start(_ScoringActor, work),
        "score",
        actors.pool_size(may_grow=may_grow),
        lambda shard, reason: (shard, reason),
    )
    watch, failed = FailureWatch("is not scored"), []
    for shard, reason in pool.run(todo):
        watch.note(shard.url, reason)
        failed += [reason] if reason else []
        yield shard.samples
    if failed:
        raise ValueError(f"{len(failed)} shards are not scored, the first: {failed[0]}; mend them and rerun")


def _write_pages(
    document: dict[str, Any], counts: Sequence[Sequence[int]], index: SplitIndex, model: SPAE, flags: EvaluateFlags
) -> None:
    """Write the table and all pictures."""
    if len(model.config.input_size) == 3:
        examples = example_strip(model, index, flags.examples, flags.frame_stride)
    else:
        examples = draw_examples(model, index, flags.examples, flags.batch)
    pictures = {
        f"{flags.named}.png": score_plot(document, "words"),
        f"{flags.named}-bits.png": score_plot(document, "bits"),
        f"{flags.named}-pictures.png": examples,
        f"{flags.named}-words.png": png_bytes(usage_figure(counts, model.vocabulary.word_list)),
    }
    for url, data in pictures.items():
        publish(url, data)
    names = [url.rsplit("/", 1)[-1] for url in pictures]
    publish(f"{flags.named}.md", score_markdown(document, names).encode())


def _report(document: dict[str, Any], others: Sequence[dict[str, Any]], index: SplitIndex, flags: EvaluateFlags) -> int:
    """Print what was found, and judge the share of errors."""
    heads = [index.name, *(url.rsplit("/", 1)[-1] for url in flags.compare)]
    sys.stdout.write(comparison_text(compared_figures([document, *others]), heads))
    read, samples, errors = (document["counts"][name] for name in ("in", "out", "failed"))
    logger.info("in %d, out %d, failed %d: %s", read, samples, errors, flags.output)
    if errors > flags.max_error_share * read:
        logger.error("%d samples cannot be decoded, over --max-error-share %g", errors, flags.max_error_share)
        return 1
    return 0


def _part_folder(flags: EvaluateFlags, options: SplitOptions, model: SPAE) -> PartFolder:
    return PartFolder(f"{flags.named}.parts", run_identity(flags, options, model))


def _unfinished(index: SplitIndex, parts: PartFolder) -> list[ShardInfo]:
    finished = parts.finished()
    return [shard for shard in index.shards if parts.name(shard) not in finished]


def _show_plan(index: SplitIndex, todo: Sequence[ShardInfo], options: SplitOptions) -> None:
    logger.info(
        "%d of %d shards with %d pictures to score, by %s; codecs: %s",
        *(len(todo), len(index.shards), sum(shard.samples for shard in todo)),
        *(", ".join(options.examiners) or "no judge", ", ".join(options.codecs) or "none"),
    )


def _placed(flags: EvaluateFlags) -> EvaluateFlags:
    """With places that hold on every machine, where others compute."""
    changes: dict[str, Any] = {"output": place("--output", flags.output)}
    if flags.workers is not None:
        named = ("shards", "tokens", "train_shards", "vocabulary", "references")
        changes |= {name: place(f"--{name}", value) for name in named if (value := getattr(flags, name)) is not None}
        models = ("model", "baseline_model")
        changes |= {name: place_or_name(f"--{name}", value) for name in models if (value := getattr(flags, name))}
        files = (asked.partition("=") for asked in flags.judges)
        changes["judges"] = tuple(name + sign + (file and place("--judges", file)) for name, sign, file in files)
    return dataclasses.replace(flags, **changes)


def _other_document(url: str) -> dict[str, Any]:
    data = read_bytes(url)
    if data is None:
        raise ValueError(f"--compare {url} does not exist; give the --output of another run")
    return dict(json.loads(data))


def _first_shards(url: str, limit: int | None) -> SplitIndex:
    index = load_index(url)
    return SplitIndex(index.name, index.shards[:limit])


if __name__ == "__main__":
    sys.exit(main())
