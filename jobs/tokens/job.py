"""What the workers of a tokenizing run need to know."""

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jobs.tokens.carried import CarriedField
from jobs.tokens.views import decode_views
from spae.data.clips import fitted_clips
from spae.evaluation.pictures import Cut


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
    clips: int | None = None
    """Rows of each video, clips or frames; None for one row a sample."""
    frame_stride: int = 1
    """How many frames further in the video each next frame of a clip lies."""
    decoder_cpus: float = 0.25
    """CPUs that Ray reserves for a decoding task."""
    block_bytes: int = 1 << 28
    """A shard that decodes to more is not passed between processes at once but in parts, which are no more together."""
    parts_at_once: int = 8
    """Parts of a large shard that are being decoded, or wait to be encoded."""

    @property
    def rows_of_sample(self) -> int:
        """Rows of each sample: one, or its views or clips."""
        return self.views * (self.clips or 1)

    @property
    def cut(self) -> Cut | None:
        """What makes the views of a picture or the clips of a video, None where a sample is one row."""
        if self.views > 1:
            height, width = self.input_size
            return functools.partial(decode_views, size=(height, width), views=self.views, seed=self.seed)
        if self.clips is None and self.frame_stride == 1:
            return None
        return functools.partial(_decode_clips, size=self.input_size, clips=self.clips or 1, stride=self.frame_stride)


def _decode_clips(key: str, media: bytes, *, size: tuple[int, ...], clips: int, stride: int) -> list[NDArray[np.uint8]]:
    return fitted_clips(media, size, clips, stride)
