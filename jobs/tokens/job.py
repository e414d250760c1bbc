"""What the workers of a tokenizing run need to know."""

import functools
from dataclasses import dataclass
from typing import Literal

from jobs.tokens.carried import CarriedField
from jobs.tokens.views import cut_views
from spae.evaluation.pictures import Views


@dataclass(frozen=True, kw_only=True)
class TokenJob:
    """By which model shards become words, and where the tables go."""

    model: str
    model_fingerprint: str
    """The model must be this one wherever it is loaded."""
    output: str
    input_size: tuple[int, ...]
    batch: int
    device: str
    layers: int
    """First layers that are searched and stored."""
    text_layers: int = 0
    """First layers whose words are stored as text too; 0 for none."""
    llm_ids: bool = False
    """Whether the language model's own ids are stored too."""
    dtype: Literal["float32", "tf32", "bfloat16"] = "float32"
    """In which the networks compute."""
    agreement: float | None = None
    """Share of the words that are float32's, where that is not 1 by definition."""
    carry: tuple[CarriedField, ...] = ()
    """Fields of the samples that are stored too."""
    error_db: float | None = None
    """PSNR in dB that a picture's layers must reach: those beyond are not stored. None stores all."""
    views: int = 1
    """Rows of each picture: itself, then crops and mirror images."""
    seed: int = 0
    """Of these."""
    decoder_cpus: float = 0.25
    """CPUs that Ray reserves for a decoding task."""
    block_bytes: int = 1 << 28
    """A shard that decodes to more is not passed between processes at once but in parts, which are no more together."""
    parts_at_once: int = 8
    """Parts of a large shard that are being decoded, or wait to be encoded."""

    @property
    def cut(self) -> Views | None:
        """What makes the views of a picture, None where it is the only one."""
        return None if self.views == 1 else functools.partial(cut_views, views=self.views, seed=self.seed)
