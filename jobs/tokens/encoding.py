"""Encoding a decoded shard where the model is, and publishing its table."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from jobs.retries import persistently
from jobs.tokens.actors import load_for_actor
from jobs.tokens.columns import optional_columns
from jobs.tokens.dead_letters import publish_dead_letters
from jobs.tokens.decoding import decode_parts
from jobs.tokens.job import TokenJob
from jobs.tokens.messages import (
    DecodedShard,
    Decoding,
    FailedShard,
    LargeShard,
    Outcome,
    Row,
    TokenizedShard,
    from_row,
    to_row,
)
from spae import __version__
from spae.data.sources import Shard, SourceShard
from spae.data.token_table import TokenRows, TokenTableFooter, token_table_url, write_token_table
from spae.evaluation.pictures import DecodedPictures, Undecodable, encode_in_batches, join_pyramids
from spae.pyramid import TokenPyramid


class ShardEncoder:
    """An actor that holds the model: pictures of a shard in, its table published, what became of it out."""

    def __init__(self, job: TokenJob) -> None:
        self.job = job
        self.model = load_for_actor(job.model, job.model_fingerprint, job.device)

    def __call__(self, row: Row) -> Row:
        """The same as `tokenize`, for Ray."""
        return to_row(self.tokenize(from_row(row)))

    def tokenize(self, decoding: Decoding) -> Outcome:
        """Encode a shard and publish dead letters and table."""
        if isinstance(decoding, FailedShard):
            return decoding
        shard = decoding.shard
        try:
            rows, errors = persistently(f"encoding {shard.name}", lambda: self._encode(decoding))
            persistently(f"publishing the table of {shard.name}", lambda: self._publish(shard, rows, errors))
        except Exception as error:  # of whatever library store or device need: the other shards go on
            return FailedShard(shard, str(error) or repr(error))
        if isinstance(shard, SourceShard):
            shard = dataclasses.replace(shard, samples=len(rows.keys) + len(errors), entries=())
        return TokenizedShard(shard, len(errors))

    def _encode(self, decoding: DecodedShard | LargeShard) -> tuple[TokenRows, list[Undecodable]]:
        keys: list[str] = []
        labels: list[int | None] = []
        errors: list[Undecodable] = []
        pyramids: list[TokenPyramid] = []
        for part in self._parts(decoding):
            keys += part.keys
            labels += part.labels
            errors += part.errors
            if part.keys:
                pyramids.append(encode_in_batches(self.model, part.pixels, self.job.batch, self.job.layers))
        layers = tuple(np.empty((0, *grid), np.int32) for grid in self.model.config.grids[: self.job.layers])
        if pyramids:
            layers = join_pyramids(pyramids).to_arrays()
        rows = TokenRows(tuple(keys), tuple(labels), layers)
        return dataclasses.replace(rows, columns=optional_columns(rows, self.model.vocabulary, self.job)), errors

    def _parts(self, decoding: DecodedShard | LargeShard) -> Iterator[DecodedPictures]:
        if isinstance(decoding, DecodedShard):
            yield decoding.pictures
            return
        yield from decode_parts(decoding.shard, self.job)

    def _publish(self, shard: Shard, rows: TokenRows, errors: list[Undecodable]) -> None:
        footer = self._footer(shard, rows, len(errors))
        publish_dead_letters(self.job.output, shard, errors, footer)
        write_token_table(token_table_url(self.job.output, shard.name), rows, footer)

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
            samples=len(rows.keys) + errors,
            errors=errors,
            device=self.model.device_name,
            dtype=str(next(self.model.parameters()).dtype).removeprefix("torch."),
            batch=self.job.batch,
            code_version=__version__,
        )
