"""What a vocabulary will be made of: the flags of the command, and the plan that they lead to."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from apache_beam.options.pipeline_options import DebugOptions, DirectOptions, PipelineOptions

from pipelines.features.beam import Workers
from pipelines.features.encoder import IMAGENET, ClipSource, Encoding, read_templates
from pipelines.features.parts import VectorParts
from pipelines.flags import is_dataflow
from pipelines.words.choice import WordFilter, Words, choose_words, first_asked
from pipelines.words.denied import DEFAULT, read_denied
from pipelines.words.files import counts_sha256, read_frequencies
from pipelines.words.sources import SourceFlags, read_language_model
from pipelines.words.tokens import LanguageModel, RowsError, UnaskedRows
from spae.clip import load_clip, semantics_record
from spae.data.publishing import absolute
from spae.vocabulary.record import Storage, VocabularyRecord
from spae.vocabulary.transforms import check_width


@dataclass(frozen=True, kw_only=True)
class VocabularyFlags(SourceFlags):
    """Which words, which CLIP, and where to."""

    output: str
    """Folder or URL of the vocabulary."""
    clip: str | None = None
    """Model name of open_clip, local-dir:FOLDER, or hf-hub:ORG/NAME; without it no semantics, for training unguided."""
    clip_weights: str | None = None
    """Tag of open_clip or a file; for a plain model name only."""
    max_words: int | None = None
    """Keep the most frequent words: by the tokenizer's order of merges or scores, or by --frequencies."""
    frequencies: str | None = None
    """File with word<TAB>count a line, by which words are ranked instead."""
    word_pattern: str = ""
    """Regular expression that a whole word must match, such as [a-z]{3,}; empty takes all."""
    whole_words: bool = False
    """Leave out tokens that only continue a word, such as ##ing."""
    include: tuple[str, ...] = ()
    """Words kept whatever their rank and pattern."""
    deny: str = DEFAULT
    """Words left out: default (slurs, as hashes), none, or a file with one a line, in clear or as sha256:HASH."""
    keep_outliers: bool = False
    """Keep words whose embedding is far longer or shorter than the others."""
    table: Literal["centred", "raw"] = "centred"
    """centred: (e - mean) / |e - mean|. raw: the model's own rows, of which a few are nearest to nearly everything."""
    project_width: int | None = None
    """Bring the rows to this width by their principal directions, for tables wider than an encoder should emit."""
    templates: str = IMAGENET
    """imagenet-80, or a text file with one prompt a line, {} where the word goes."""
    embeddings: Storage = "stored"
    """reference: the folder holds hash and source of embeddings that may not be republished, not the rows."""
    words_per_batch: int = 32
    """Words that a worker encodes and publishes at a time, each with every prompt."""
    device: Literal["cpu", "cuda"] | None = None
    """Encode in this process on this device, without Beam; else on Beam's workers, each on the accelerator it has."""
    worker_ram: str | None = None
    """Least memory of a Dataflow worker, as 16GB."""
    accelerator: str | None = None
    """GPU of a Dataflow worker, as type:nvidia-l4;count:1;install-nvidia-driver; implies --share-model."""
    share_model: bool = False
    """One CLIP a machine, which serves all its worker processes, instead of one a process: less memory."""
    gpu_teraflops: float = 10.0
    """What --dry-run takes a GPU to do of float32 a second, in 10^12 operations; a third of an L4's peak."""
    limit: int | None = None
    """Embed and encode the first words only, as a pilot: no vocabulary is written, and a run without it continues."""
    max_error_share: float = 0.01
    """Share of words that CLIP cannot take above which the run fails."""
    dry_run: bool = False
    """Print the plan and an estimate of its cost, measured on one batch of words, and write nothing."""
    replace: bool = False
    """Replace a vocabulary of other words, another CLIP or other settings."""
    license: str = ""
    """Licence of the language model's embeddings, for the record."""
    source_terms: str = ""
    """Terms of the sources, for the record."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.max_error_share <= 1:
            raise ValueError(f"--max-error-share {self.max_error_share} must be between 0 and 1")
        if self.project_width is not None and self.table != "centred":
            raise ValueError(f"--project-width {self.project_width} needs --table centred, not {self.table}")
        if self.clip is None and self.clip_weights is not None:
            raise ValueError(f"--clip-weights {self.clip_weights} needs --clip")
        for name in ("limit", "words_per_batch", "project_width"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} {value} must be at least 1")
        if self.gpu_teraflops <= 0:
            raise ValueError(f"--gpu-teraflops {self.gpu_teraflops} must be above 0")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("--device cuda: torch sees no CUDA device here; leave it out, or take --device cpu")

    def workers(self) -> Workers:
        """What Beam's workers get; ValueError where --worker-ram is no size."""
        return Workers(
            words_per_batch=self.words_per_batch,
            ram=self.worker_ram,
            accelerator=self.accelerator,
            share_model=self.share_model or self.accelerator is not None,
        )


@dataclass(frozen=True)
class VocabularyPlan:
    """What a run will make, before any word is encoded."""

    model: LanguageModel
    rules: WordFilter
    record: VocabularyRecord
    encoding: Encoding | None
    """None for a vocabulary without semantics."""
    rows_cost: str = ""
    """What embeddings would cost that a dry run does not ask for."""

    @cached_property
    def words(self) -> Words:
        """The chosen words; embeddings on demand are asked for at the first use.

        RowsError where a row cannot be had, or the rows cannot be projected as they shall.
        """
        chosen = choose_words(self.model, self.rules)
        if self.record.projected_width is not None and not isinstance(self.model.embeddings, UnaskedRows):
            try:
                check_width(chosen.rows, self.record.projected_width)
            except ValueError as error:
                raise RowsError(f"--project-width: {error}") from error
        return chosen

    @cached_property
    def expected(self) -> int:
        """How many words a full run encodes; of rows on demand, as far as can be told before they are asked for."""
        return len(first_asked(self.model, self.rules) if self.model.embeddings.on_demand else self.words.words)

    def first_words(self, limit: int | None) -> Sequence[str]:
        """The words to encode; of a pilot the first alone, and no embeddings of others are asked for."""
        rows = self.model.embeddings
        if limit is None or limit >= self.expected or not rows.on_demand:
            return self.words.words[:limit]
        asked = dict(islice(first_asked(self.model, self.rules).items(), limit))
        rows.rows(list(asked), list(asked.values()))
        return tuple(asked)

    @property
    def prompts(self) -> int:
        """Prompts a word."""
        return len(self.encoding.clip.record.templates) if self.encoding else 0


def make_plan(flags: VocabularyFlags, options: PipelineOptions) -> VocabularyPlan:
    """Read the language model, choose its words and look at CLIP; ValueError where something cannot be used."""
    denied = read_denied(flags.deny)
    frequencies = read_frequencies(flags.frequencies) if flags.frequencies else {}
    rules = WordFilter(
        pattern=flags.word_pattern,
        whole=flags.whole_words,
        max_words=flags.max_words,
        include=flags.include,
        denied=denied,
        frequencies=frequencies,
        keep_outliers=flags.keep_outliers,
    )
    encoding = _plan_encoding(flags, flags.clip, options) if flags.clip else None
    model = read_language_model(flags, absolute(flags.output))
    record = VocabularyRecord(
        llm=model.tokens.name,
        llm_revision=model.revision,
        embeddings_source=model.embeddings.source,
        table=flags.table,
        projected_width=flags.project_width,
        word_pattern=flags.word_pattern,
        whole_words=flags.whole_words,
        max_words=flags.max_words,
        included=flags.include,
        denied_sha256=denied.sha256,
        frequencies_sha256=counts_sha256(frequencies),
        keep_outliers=flags.keep_outliers,
        embeddings=flags.embeddings,
        license=flags.license,
        source_terms=flags.source_terms,
        semantics=encoding.clip.record if encoding else None,
    )
    return _checked(VocabularyPlan(model, rules, record, encoding), flags)


def _checked(plan: VocabularyPlan, flags: VocabularyFlags) -> VocabularyPlan:
    """The plan with all that can fail at once done; a dry run asks for no rows that cost anything."""
    rows = plan.model.embeddings
    if not rows.on_demand:
        _ = plan.words
        return plan
    words = list(first_asked(plan.model, plan.rules))[: flags.limit]
    if not flags.dry_run:
        return plan
    model = dataclasses.replace(plan.model, embeddings=UnaskedRows(rows.source))
    return dataclasses.replace(plan, model=model, rows_cost=rows.estimate(words))


def _plan_encoding(flags: VocabularyFlags, clip: str, options: PipelineOptions) -> Encoding:
    templates = read_templates(flags.templates)
    semantics = semantics_record(load_clip(clip, flags.clip_weights), Path(flags.templates).name, templates)
    threads = None if flags.device else _threads(options, flags.workers())
    source = ClipSource(clip, flags.clip_weights, semantics, flags.device, threads)
    return Encoding(source, VectorParts.of(absolute(flags.output), semantics))


def _threads(options: PipelineOptions, workers: Workers) -> int | None:
    """Threads a worker may take where several start on a machine; they would fight for its cores."""
    if workers.share_model:
        return None
    if is_dataflow(options):  # starts a process a core, unless told not to
        return None if options.view_as(DebugOptions).lookup_experiment("no_use_multiple_sdk_containers") else 1
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode != "multi_processing":
        return None
    cores = os.cpu_count() or 1
    return max(1, cores // (direct.direct_num_workers or cores))
