"""Encoding a decoded shard where the model is, and publishing its table."""

import dataclasses
import math
import threading
import time
import uuid
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.retries import persistently
from jobs.tokens.actors import load_for_actor
from jobs.tokens.columns import optional_columns
from jobs.tokens.dead_letters import publish_dead_letters
from jobs.tokens.decoding import decode_parts
from jobs.tokens.depth import needed_layers
from jobs.tokens.job import TokenJob
from jobs.tokens.messages import (
    DecodedShard,
    Decoding,
    FailedShard,
    LargeShard,
    Outcome,
    TokenizedShard,
)
from jobs.tokens.metrics import timed
from jobs.tokens.precision import computing_in
from jobs.tokens.usage import Usage, peak_memory
from spae import __version__
from spae.data.sources import Shard, SourceShard
from spae.data.token_table import (
    DEPTH_COLUMN,
    TokenRows,
    TokenTableFooter,
    find_token_table,
    token_table_url,
    write_token_table,
)
from spae.evaluation.pictures import DecodedPictures, Undecodable, encode_in_batches
from spae.pyramid import TokenPyramid


class ShardEncoder:
    """An actor that holds the model: pictures of a shard in, its table published, what became of it out.

    Two calls may be under way: while the tables of one shard are published the next one is encoded.
    """

    def __init__(self, job: TokenJob) -> None:
        self.job = job
        self.model = load_for_actor(job.model, job.model_fingerprint, job.device)
        self._computing, self._fastest, self._name = threading.Lock(), 0.0, uuid.uuid4().hex

    def tokenize(self, decoding: Decoding) -> Outcome:
        """Encode a shard and publish dead letters and table."""
        if isinstance(decoding, FailedShard):
            return decoding
        shard = decoding.shard
        try:
            with self._computing, timed("encode"):
                rows, errors = persistently(f"encoding {shard.name}", lambda: self._encode(decoding))
            with timed("publish"):
                footer, size = persistently(
                    f"publishing the table of {shard.name}", lambda: self._publish(shard, rows, errors)
                )
        except Exception as error:  # of whatever library store or device need: the other shards go on
            return FailedShard(shard, str(error) or repr(error))
        if isinstance(shard, SourceShard):
            shard = dataclasses.replace(
                shard, samples=len(rows.keys) // self.job.rows_of_sample + len(errors), entries=()
            )
        usage = Usage(self._name, self._fastest, peak_memory(), decoding.peak_memory)
        return TokenizedShard(shard, footer, size, usage)

    def _encode(self, decoding: DecodedShard | LargeShard) -> tuple[TokenRows, list[Undecodable]]:
        keys: list[str] = []
        labels: list[int | None] = []
        errors: list[Undecodable] = []
        parts = [tuple(np.empty((0, *grid), np.int32) for grid in self.model.config.grids[: self.job.layers])]
        depths = [np.empty(0, np.int32)]
        for part in self._parts(decoding):
            keys += part.keys
            labels += part.labels
            errors += part.errors
            if part.keys:
                begin = time.monotonic()
                with computing_in(self.job.dtype, self.job.device):
                    pyramid = encode_in_batches(self.model, part.pixels, self.job.batch, self.job.layers)
                parts.append(pyramid.to_arrays())
                seconds = (time.monotonic() - begin) / math.ceil(len(part.keys) / self.job.batch)
                self._fastest = min(seconds, self._fastest or seconds)
                depths += self._depths(pyramid, part)
        layers = tuple(np.concatenate(ids) for ids in zip(*parts, strict=True))
        given = {} if self.job.error_db is None else {DEPTH_COLUMN: pa.array(np.concatenate(depths))}
        rows = TokenRows(tuple(keys), tuple(labels), layers, given)
        return dataclasses.replace(
            rows, columns=optional_columns(rows, self.model.vocabulary, self.job, decoding.shard)
        ), errors

    def _depths(self, pyramid: TokenPyramid, pictures: DecodedPictures) -> list[NDArray[np.int32]]:
        """How many layers each picture needs, where that is asked for."""
        if self.job.error_db is None:
            return []
        return [needed_layers(self.model, pyramid, pictures.pixels, self.job.batch, self.job.error_db)]

    def _parts(self, decoding: DecodedShard | LargeShard) -> Iterator[DecodedPictures]:
        if isinstance(decoding, DecodedShard):
            yield decoding.pictures
            return
        yield from decode_parts(decoding.shard, self.job)

    def _publish(self, shard: Shard, rows: TokenRows, errors: list[Undecodable]) -> tuple[TokenTableFooter, int]:
        """The footer and bytes of the table as it stands: what a worker believes that it wrote decides nothing."""
        footer = self._footer(shard, rows, len(errors))
        publish_dead_letters(self.job.output, shard, errors, footer)
        write_token_table(token_table_url(self.job.output, shard.name), rows, footer)
        table = find_token_table(self.job.output, shard.name)
        if table.footer != footer:
            raise OSError(f"{token_table_url(self.job.output, shard.name)} is not what was written: {table.problem}")
        return footer, table.bytes

    def _footer(self, shard: Shard, rows: TokenRows, errors: int) -> TokenTableFooter:
        return TokenTableFooter(
            model_fingerprint=self.job.model_fingerprint,
            words_fingerprint=self.model.vocabulary.words_fingerprint,
            grids=self.model.config.grids,
            layers=self.job.layers,
            columns=tuple(rows.columns),
            text_layers=self.job.text_layers,
            source_shard=shard.name,
            source_sha256=shard.sha256,
            error_db=self.job.error_db,
            views=self.job.views,
            view_seed=self.job.seed if self.job.views > 1 else 0,
            clips=self.job.clips,
            frame_stride=self.job.frame_stride,
            samples=len(rows.keys) // self.job.rows_of_sample + errors,
            errors=errors,
            device=self.model.device_name,
            dtype=self.job.dtype,
            batch=self.job.batch,
            code_version=__version__,
            agreement=self.job.agreement,
        )
