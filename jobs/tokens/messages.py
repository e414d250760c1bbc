"""What decoding tells encoding, and encoding the driver: of one shard each."""

from dataclasses import dataclass, field

from jobs.tokens.usage import Usage
from spae.data.sources import Shard
from spae.data.token_table import TokenTableFooter
from spae.evaluation.pictures import DecodedPictures


@dataclass(frozen=True)
class DecodedShard:
    """A shard with its pictures."""

    shard: Shard
    pictures: DecodedPictures
    peak_memory: int = field(default=0, compare=False)
    """Bytes that the process which decoded it has taken at most."""


@dataclass(frozen=True)
class LargeShard:
    """A shard whose pictures are too many to pass between processes: they are decoded part by part."""

    shard: Shard
    peak_memory: int = field(default=0, compare=False)


@dataclass(frozen=True)
class FailedShard:
    """A shard that gets no table, and why."""

    shard: Shard
    reason: str


@dataclass(frozen=True)
class TokenizedShard:
    """A shard whose table is published: what its footer says there, its bytes, what making it took."""

    shard: Shard
    footer: TokenTableFooter
    bytes: int
    usage: Usage

    @property
    def errors(self) -> int:
        """Samples that are not in the table."""
        return self.footer.errors


Decoding = DecodedShard | LargeShard | FailedShard
Outcome = TokenizedShard | FailedShard
