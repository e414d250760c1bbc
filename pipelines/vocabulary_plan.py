"""What a vocabulary will be made of: the flags of the command, and the plan that they lead to."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from apache_beam.options.pipeline_options import DebugOptions, DirectOptions, PipelineOptions

from pipelines.feature_parts import Encoding, FeatureParts
from pipelines.transforms import is_dataflow
from pipelines.vocabulary_features import Workers
from pipelines.word_features import IMAGENET, ClipSource, read_templates
from pipelines.words import WordFilter, Words, choose_words, read_language_model
from spae.clip import load_clip, semantics_record
from spae.publishing import absolute
from spae.vocabulary_record import TableName, VocabularyRecord


@dataclass(frozen=True, kw_only=True)
class VocabularyFlags:
    """Which words, which CLIP, and where to."""

    llm: str
    """Language model: a Hugging Face folder, a hub id, or an installed package that ships one in model/."""
    output: str
    """Folder or URL of the vocabulary."""
    clip: str | None = None
    """Model name of open_clip, local-dir:FOLDER, or hf-hub:ORG/NAME; without it no semantics, for training unguided."""
    clip_weights: str | None = None
    """Tag of open_clip or a file; for a plain model name only."""
    max_words: int | None = None
    """Keep the first words in token order, which is by frequency in most vocabularies."""
    word_pattern: str = ""
    """Regular expression that a whole word must match, such as [a-z]{3,}; empty takes all."""
    whole_words: bool = False
    """Leave out tokens that only continue a word, such as ##ing."""
    include: tuple[str, ...] = ()
    """Words kept whatever their rank and pattern."""
    table: TableName = "centred"
    """centred: (e - mean) / |e - mean|. raw: the model's own rows, of which a few are nearest to nearly everything."""
    project_width: int | None = None
    """Bring the rows to this width by their principal directions, for tables wider than an encoder should emit."""
    templates: str = IMAGENET
    """imagenet-80, or a text file with one prompt a line, {} where the word goes."""
    llm_revision: str | None = None
    """Branch, tag or commit of a hub id."""
    embeddings_tensor: str | None = None
    """Name of the input embeddings, where it cannot be guessed."""
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
    """Encode the first words only, as a pilot: no vocabulary is written, and a later run without it continues."""
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
        if not 0 <= self.max_error_share <= 1:
            raise ValueError(f"--max-error-share {self.max_error_share} must be between 0 and 1")
        if self.project_width is not None and self.table != "centred":
            raise ValueError(f"--project-width {self.project_width} needs --table centred, not {self.table}")
        for name in ("limit", "words_per_batch"):
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
class Plan:
    """What a run will make, before any word is encoded."""

    words: Words
    record: VocabularyRecord
    encoding: Encoding | None
    """None for a vocabulary without semantics."""

    @property
    def prompts(self) -> int:
        """Prompts a word."""
        return len(self.encoding.clip.record.templates) if self.encoding else 0


def make_plan(flags: VocabularyFlags, options: PipelineOptions) -> Plan:
    """Read the language model, choose its words and look at CLIP; ValueError where something cannot be used."""
    rules = WordFilter(
        pattern=flags.word_pattern, whole=flags.whole_words, max_words=flags.max_words, include=flags.include
    )
    encoding = _plan_encoding(flags, flags.clip, options) if flags.clip else None
    model = read_language_model(flags.llm, flags.llm_revision, flags.embeddings_tensor)
    words = choose_words(model, rules)
    record = VocabularyRecord(
        llm=model.name,
        llm_revision=model.revision,
        embeddings_source=model.embeddings_source,
        table=flags.table,
        projected_width=flags.project_width,
        word_pattern=flags.word_pattern,
        whole_words=flags.whole_words,
        max_words=flags.max_words,
        included=flags.include,
        license=flags.license,
        source_terms=flags.source_terms,
        semantics=encoding.clip.record if encoding else None,
    )
    return Plan(words, record, encoding)


def _plan_encoding(flags: VocabularyFlags, clip: str, options: PipelineOptions) -> Encoding:
    templates = read_templates(flags.templates)
    semantics = semantics_record(load_clip(clip, flags.clip_weights), Path(flags.templates).name, templates)
    threads = None if flags.device else _threads(options, flags.workers())
    source = ClipSource(clip, flags.clip_weights, semantics, flags.device, threads)
    return Encoding(source, FeatureParts.of(absolute(flags.output), semantics))


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
