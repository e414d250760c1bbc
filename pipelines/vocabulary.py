"""Make a vocabulary: a language model's words, their input embeddings, and what CLIP knows of each word.

    python -m pipelines.vocabulary --llm FOLDER_OR_ID --clip ViT-L-14-quickgelu --clip-weights openai --output URL

A rerun continues where a killed run ended. Beam's own flags (--runner, --direct_num_workers, ...) are passed on; how
Dataflow's workers get CLIP stands in infra/dataflow/Dockerfile. --device cuda does all in one process on a GPU, and
--dry-run says what each way costs.
"""

import dataclasses
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import transformers
from apache_beam.options.pipeline_options import PipelineOptions
from torch import Tensor

from pipelines.failures import quiet_clients, status_before_work, status_of_work
from pipelines.features.beam import compute_features, compute_features_here
from pipelines.features.cost import estimate_cost
from pipelines.flags import beam_options, check_places, parse_command
from pipelines.words.choice import NAMED
from pipelines.words.plan import VocabularyFlags, VocabularyPlan, make_plan
from pipelines.words.tokens import RowsError
from spae.data.publishing import absolute, check_writable, delete, join, publish, read_bytes
from spae.vocabulary import Vocabulary
from spae.vocabulary.record import OUTCOMES, VocabularyRecord
from spae.vocabulary.references import CACHE_VARIABLE, keep_table
from spae.vocabulary.round_trip import measure_round_trip
from spae.vocabulary.transforms import apply_transform, make_transform, rows_sha256

logger = logging.getLogger(__name__)


def assemble(plan: VocabularyPlan) -> tuple[Vocabulary, dict[str, str]]:
    """The vocabulary of all words that have features, in token order, and the reasons of those that have none.

    Where no CLIP was given, of all words.
    """
    chosen = plan.words
    features, errors = plan.encoding.parts.read() if plan.encoding else ({}, {})
    lost = {word: errors[word] for word in chosen.words if word in errors}
    kept = [row for row, word in enumerate(chosen.words) if word not in lost]
    missing = [chosen.words[row] for row in kept if chosen.words[row] not in features]
    if missing and plan.encoding:
        raise RuntimeError(f"{len(missing)} words have no features, {missing[0]!r} the first; run again to continue")
    rows = chosen.rows[kept]
    transform, table = _make_table(rows, plan.record)
    counts = {"kept": len(kept), **chosen.dropped, **({"refused by CLIP": len(lost)} if lost else {})}
    vocabulary = Vocabulary(
        word_list=tuple(chosen.words[row] for row in kept),
        llm_ids=chosen.llm_ids[kept],
        embeddings=table,
        semantics=torch.from_numpy(np.stack([features[chosen.words[row]] for row in kept])) if plan.encoding else None,
        record=dataclasses.replace(
            plan.record, counts=counts, dropped_words=_named(chosen.examples, lost), rows_sha256=rows_sha256(rows)
        ),
        transform=transform,
    )
    tokens = plan.model.tokens
    if tokens.split is None:
        return vocabulary, lost
    round_trip = measure_round_trip(vocabulary.word_list, tokens.split_words)
    return dataclasses.replace(vocabulary, record=dataclasses.replace(vocabulary.record, round_trip=round_trip)), lost


def _make_table(rows: Tensor, record: VocabularyRecord) -> tuple[dict[str, Tensor], Tensor]:
    """The transform and the table in use; RowsError where the rows make none, as when all are equal."""
    try:
        transform = make_transform(rows, record.table, record.projected_width)
        return transform, apply_transform(rows, transform)
    except ValueError as error:
        raise RowsError(f"no {record.table} table of {record.embeddings_source}: {error}") from error


def _named(examples: Mapping[str, tuple[str, ...]], lost: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    return {**examples, "refused by CLIP": tuple(lost)[:NAMED]} if lost else examples


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where work failed, 2 for unusable arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname).1s %(message)s")
    for own in (__name__, "pipelines", "spae"):  # open_clip tells its steps to the root logger
        logging.getLogger(own).setLevel(logging.INFO)
    quiet_clients()
    transformers.logging.set_verbosity_error()
    try:
        flags, beams = parse_command(VocabularyFlags, "pipelines.vocabulary", __doc__ or "", arguments)
        options = _runner_options(flags, beams)
        plan = make_plan(flags, options)
        if _is_finished(plan, flags):
            return 0
        if flags.dry_run:
            return _show_plan(plan, flags)
        check_writable(absolute(flags.output))
    except Exception as error:  # stores tell of their troubles by exceptions of many libraries
        return status_before_work(error)
    try:
        return _run(plan, flags, options)
    except RowsError as error:
        logger.error("%s", error)
        return 1
    except Exception as error:  # whatever a runner raises
        return status_of_work(error)


def _run(plan: VocabularyPlan, flags: VocabularyFlags, options: PipelineOptions) -> int:
    wanted = plan.first_words(flags.limit)
    _encode(wanted, plan, flags, options)
    if flags.limit is not None and flags.limit < plan.expected:
        logger.info("pilot of %d of %d words; run without --limit to finish", len(wanted), plan.expected)
        return 0
    vocabulary, lost = assemble(plan)
    return _publish(vocabulary, lost, plan, flags)


def _encode(words: Sequence[str], plan: VocabularyPlan, flags: VocabularyFlags, options: PipelineOptions) -> None:
    if plan.encoding is None:
        return
    begin, todo = time.monotonic(), _missing(plan, words)
    if todo and flags.device:
        compute_features_here(todo, plan.encoding, flags.words_per_batch)
    elif todo:
        compute_features(todo, plan.encoding, flags.workers(), options)
    seconds = time.monotonic() - begin
    logger.info(
        "%d words encoded in %.1f s (%.0f prompts a second), %d were there before",
        *(len(todo), seconds, len(todo) * plan.prompts / seconds, len(words) - len(todo)),
    )


def _publish(vocabulary: Vocabulary, lost: dict[str, str], plan: VocabularyPlan, flags: VocabularyFlags) -> int:
    output = absolute(flags.output)
    rows = [{"key": word, "source": plan.record.llm, "reason": reason} for word, reason in lost.items()]
    if rows:
        publish(join(output, "errors.jsonl"), "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    else:
        delete(join(output, "errors.jsonl"))
    for name, count in vocabulary.record.counts.items():
        logger.info("%7d tokens: %s", count, name)
    if len(lost) > flags.max_error_share * len(plan.words.words):
        share = 100 * len(lost) / len(plan.words.words)
        logger.error("CLIP refused %.2f%% of the words, over --max-error-share %g", share, flags.max_error_share)
        return 1
    if vocabulary.record.embeddings == "reference":
        kept = keep_table(vocabulary.words_fingerprint, vocabulary.embeddings)
        logger.info("the embeddings are not in the vocabulary but in %s (see %s)", kept, CACHE_VARIABLE)
    vocabulary.save(output)
    plan.model.embeddings.clear()
    if plan.encoding:
        plan.encoding.parts.clear()
    logger.info("%d words of width %d: %s", len(vocabulary), vocabulary.width, output)
    return 0


def _is_finished(plan: VocabularyPlan, flags: VocabularyFlags) -> bool:
    """Whether the output holds this vocabulary already; ValueError if it holds another that may not be replaced."""
    output = absolute(flags.output)
    if read_bytes(join(output, "vocabulary.json")) is None:
        return False
    try:
        found = Vocabulary.load(output)
        problem = "another vocabulary: " + ", ".join(_differences(found.record, plan.record))
        if not _differences(found.record, plan.record):
            logger.info("%s holds this vocabulary of %d words already", output, len(found))
            return True
    except ValueError as error:
        problem = str(error)
    if not flags.replace:
        raise ValueError(f"{output} holds {problem}; give --replace to write it anew, or another --output")
    return False


def _differences(found: VocabularyRecord, planned: VocabularyRecord) -> list[str]:
    """What the two were made from that differs; counts follow from it, and a cosine's last digits from the machine."""

    def inputs(record: VocabularyRecord) -> dict[str, object]:
        values = dataclasses.asdict(record)
        semantics = values.pop("semantics") or {}
        values |= {f"CLIP {name}": value for name, value in semantics.items()}
        for name in (*OUTCOMES, "CLIP golden_cosine", "CLIP clip", "CLIP clip_weights"):
            values.pop(name, None)
        return values

    one, other = inputs(found), inputs(planned)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _missing(plan: VocabularyPlan, wanted: Sequence[str]) -> list[str]:
    if plan.encoding is None:
        return []
    features, errors = plan.encoding.parts.read()
    return [word for word in wanted if word not in features and word not in errors]


def _runner_options(flags: VocabularyFlags, beams: Sequence[str]) -> PipelineOptions:
    """Beam's options; ValueError where they do not go with our flags."""
    if flags.device and beams:
        raise ValueError(f"--device {flags.device} works without Beam, so that {beams[0]} means nothing; give one")
    options = beam_options(beams)
    check_places(options, {"--output": flags.output})
    return options


def _show_plan(plan: VocabularyPlan, flags: VocabularyFlags) -> int:
    """The plan with its cost, which is estimated from a batch that is encoded here."""
    todo = _missing(plan, plan.first_words(flags.limit))
    for name, count in {"kept": len(plan.words.words), **plan.words.dropped}.items():
        logger.info("%7d tokens: %s", count, name)
    if plan.rows_cost:
        logger.info("%s", plan.rows_cost)
    if plan.encoding is None or not todo:
        logger.info("nothing to encode%s", "" if plan.encoding else " without --clip")
        return 0
    cost = estimate_cost(plan.encoding.clip.load(), todo, flags.words_per_batch)
    for line in cost.lines(flags.gpu_teraflops):
        logger.info("%s", line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
