"""What a vocabulary says of itself: where its words come from, and which CLIP judged them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

TableName = Literal["centred", "raw", "learned", "projected"]


@dataclass(frozen=True, kw_only=True)
class ClipIdentity:
    """What makes two CLIPs the same, wherever they lie (facts 8.13)."""

    architecture_sha256: str
    """Of the model's configuration without the paths in it."""
    weights_sha256: str
    """Of all tensors of the model, image and text tower."""
    activation: str
    """gelu or quick_gelu: the wrong one spoils every similarity in silence."""
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str


@dataclass(frozen=True, kw_only=True)
class SemanticsRecord(ClipIdentity):
    """Which CLIP judged the words, and how."""

    clip: str
    """open_clip's model name."""
    clip_weights: str
    """Tag or file name of the weights; information only, `weights_sha256` decides."""
    golden_cosine: float
    """Cosine of a fixed picture and a fixed sentence, to tell on another machine that CLIP still works as it did."""
    template_set: str
    templates: tuple[str, ...]
    """The prompts, with {} for the word."""
    templates_sha256: str
    renormalised: bool = False
    """Whether the mean over the templates was brought back to unit length; equation 5 does not."""


@dataclass(frozen=True, kw_only=True)
class VocabularyRecord:
    """Where a vocabulary comes from and how it was made: `vocabulary.json` without sizes and fingerprints."""

    llm: str
    """Name or hub id of the language model."""
    llm_revision: str
    """Hub commit, or a content hash for a plain folder."""
    embeddings_source: str
    """Which tensor the embeddings are."""
    table: TableName = "centred"
    """centred: (e - mean) / |e - mean|. raw: the model's own rows (facts 8.1). learned, projected: made in training."""
    scale: float = 1.0
    """Length of a centred row."""
    projected_width: int | None = None
    """Width to which the rows were brought by a fixed projection, or None."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Words kept, and words dropped by reason; they add up to the tokens of the model."""
    word_pattern: str = ""
    whole_words: bool = False
    max_words: int | None = None
    included: tuple[str, ...] = ()
    """Words that were kept whatever their rank."""
    license: str = ""
    source_terms: str = ""
    semantics: SemanticsRecord | None = None
