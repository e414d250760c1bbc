"""The two stages of bulk tokenization, as Ray Data runs them: decode a shard on any CPU, encode it where the model is.

One row is one shard all the way, so that batches never cross a shard and a table is written by one process. Importable
without Ray: both stages are plain callables on rows.
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from spae import __version__
from spae.data.publishing import delete, join, publish
from spae.data.records import ERRORS_FOLDER, ShardInfo
from spae.data.token_table import TokenRows, TokenTableFooter, token_table_url, write_token_table
from spae.evaluation.pictures import DecodedPictures, Undecodable, encode_in_batches, join_pyramids, read_pictures
from spae.model import SPAE
from spae.pyramid import TokenPyramid

BLOCK_BYTES = 1 << 28
"""A shard that decodes to more is not passed between processes but decoded where it is encoded, part by part."""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TokenJob:
    """What every worker needs to know."""

    model: str
    model_fingerprint: str
    """The model must be this one wherever it is loaded."""
    output: str
    input_size: tuple[int, ...]
    batch: int
    device: str


@dataclass(frozen=True)
class ShardOutcome:
    """What became of a shard; `failure` says why it got no table."""

    shard: str
    samples: int
    errors: int = 0
    failure: str = ""


def decode_shard(row: Row, job: TokenJob) -> Row:
    """First stage: a row of a ShardInfo in, the same with its pictures as one uint8 block out, unless too large.

    What is wrong with a whole shard goes into `failure`.
    """
    shard = ShardInfo(**row)
    pixels, samples, failure = np.empty((0, *job.input_size, 3), np.uint8), "", ""
    if shard.samples * 3 * math.prod(job.input_size) <= BLOCK_BYTES:
        try:
            for pictures in list(read_pictures(shard, job.input_size)):  # one, where the index tells the truth
                pixels, samples = pictures.pixels, _to_json(pictures)
        except (OSError, ValueError) as error:
            failure = str(error) or repr(error)
    return {**row, "pixels": pixels, "pictures": samples, "failure": failure}


class ShardEncoder:
    """Second stage, an actor that holds the model: pictures of a shard in, its table published, a ShardOutcome out.

    It computes with one thread on a CPU: another number adds in another order, and ids could differ in a last bit.
    """

    def __init__(self, job: TokenJob) -> None:
        torch.set_num_threads(1)
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
        self.job = job
        self.model = SPAE.from_pretrained(job.model, job.device)
        if self.model.fingerprint != job.model_fingerprint:
            raise ValueError(
                f"{job.model} was {job.model_fingerprint} when the job began and is {self.model.fingerprint} now; "
                "give each model a folder of its own and start again"
            )

    def __call__(self, row: Row) -> Row:
        """Encode the shard and publish dead letters and table."""
        return dataclasses.asdict(self.tokenize(row))

    def tokenize(self, row: Row) -> ShardOutcome:
        """The same as a dataclass."""
        shard = ShardInfo(**{field.name: row[field.name] for field in dataclasses.fields(ShardInfo)})
        if row["failure"]:
            return ShardOutcome(shard.name, shard.samples, failure=row["failure"])
        keys: list[str] = []
        labels: list[int | None] = []
        errors: list[Undecodable] = []
        pyramids: list[TokenPyramid] = []
        try:
            for part in self._parts(shard, row):
                keys += part.keys
                labels += part.labels
                errors += part.errors
                if len(part.keys):
                    pyramids.append(encode_in_batches(self.model, part.pixels, self.job.batch))
        except (OSError, ValueError) as error:
            return ShardOutcome(shard.name, shard.samples, failure=str(error) or repr(error))
        publish_errors(self.job.output, shard, errors)
        footer = self._footer(shard, len(errors))
        if pyramids:
            layers = join_pyramids(pyramids).to_arrays()
        else:
            layers = tuple(np.empty((0, *grid), np.int32) for grid in footer.grids)
        rows = TokenRows(tuple(keys), tuple(labels), layers)
        write_token_table(token_table_url(self.job.output, shard.name), rows, footer)
        return ShardOutcome(shard.name, shard.samples, len(errors))

    def _parts(self, shard: ShardInfo, row: Row) -> Iterator[DecodedPictures]:
        if row["pictures"]:
            yield _from_json(row["pictures"], row["pixels"])
            return
        picture_bytes = 3 * math.prod(self.job.input_size)
        batches = max(1, int(BLOCK_BYTES // (self.job.batch * picture_bytes)))
        yield from read_pictures(shard, self.job.input_size, batches * self.job.batch)

    def _footer(self, shard: ShardInfo, errors: int) -> TokenTableFooter:
        return TokenTableFooter(
            model_fingerprint=self.job.model_fingerprint,
            words_fingerprint=self.model.vocabulary.words_fingerprint,
            grids=self.model.config.grids,
            source_shard=shard.name,
            source_sha256=shard.sha256,
            samples=shard.samples,
            errors=errors,
            device=self.model.device_name,
            dtype=str(next(self.model.parameters()).dtype).removeprefix("torch."),
            batch=self.job.batch,
            code_version=__version__,
        )


def publish_errors(output: str, shard: ShardInfo, errors: list[Undecodable]) -> None:
    """Write a shard's dead letters; the file of an earlier attempt goes where there are none."""
    url = join(output, ERRORS_FOLDER, f"{shard.name}.jsonl")
    if not errors:
        delete(url)
        return
    rows = [json.dumps({**dataclasses.asdict(error), "source": shard.url}, ensure_ascii=False) for error in errors]
    publish(url, ("\n".join(rows) + "\n").encode())


def _to_json(pictures: DecodedPictures) -> str:
    """All but the pixels, as text: a column of lists would change its Arrow type from shard to shard."""
    errors = [dataclasses.asdict(error) for error in pictures.errors]
    return json.dumps({"keys": pictures.keys, "labels": pictures.labels, "errors": errors})


def _from_json(text: str, pixels: Any) -> DecodedPictures:
    values = json.loads(text)
    errors = tuple(Undecodable(**error) for error in values["errors"])
    return DecodedPictures(tuple(values["keys"]), tuple(values["labels"]), np.asarray(pixels), errors)
