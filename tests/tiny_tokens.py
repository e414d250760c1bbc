"""Token tables written in the test's own process, by decoding and encoding without Ray."""

from pathlib import Path
from typing import Any

from jobs.tokens.decoding import decode_shard
from jobs.tokens.encoding import ShardEncoder
from jobs.tokens.job import TokenJob
from jobs.tokens.messages import Outcome, TokenizedShard
from spae.data.publishing import join, publish
from spae.data.records import ShardInfo, load_index
from spae.data.token_table import VOCABULARY_FILE, TokenTableFooter
from spae.model import SPAE
from spae.pyramid import check_layers


def token_job(model: str, output: str | Path, batch: int = 4, layers: int | None = None) -> TokenJob:
    """The job of a model folder."""
    loaded = SPAE.from_pretrained(model)
    return TokenJob(
        model=model,
        model_fingerprint=loaded.fingerprint,
        output=str(output),
        input_size=loaded.config.input_size,
        batch=batch,
        device="cpu",
        layers=check_layers(layers, loaded.depth),
    )


def tokenize_shard(job: TokenJob, shard: ShardInfo) -> Outcome:
    """What becomes of a shard."""
    return ShardEncoder(job).tokenize(decode_shard(shard, job))


def tokenize_split(model: str, split: str, output: str | Path, batch: int = 4, layers: int | None = None) -> None:
    """Write the tables of a split, and the vocabulary beside them."""
    for shard in load_index(split).shards:
        assert isinstance(tokenize_shard(token_job(model, output, batch, layers), shard), TokenizedShard)
    publish(join(str(output), VOCABULARY_FILE), SPAE.from_pretrained(model).vocabulary.words_parquet())


def token_footer(**changes: Any) -> TokenTableFooter:
    """A footer of three samples and two layers."""
    values = {
        "model_fingerprint": "m",
        "words_fingerprint": "w",
        "grids": ((1, 1), (2, 2)),
        "layers": 2,
        "source_shard": "test-000000",
        "source_sha256": "s",
        "samples": 3,
        "errors": 1,
        "device": "cpu",
        "dtype": "float32",
        "batch": 8,
        "code_version": "0",
    }
    return TokenTableFooter(**{**values, **changes})
