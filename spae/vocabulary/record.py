"""What a vocabulary says of itself: where its words come from, and which CLIP judged them."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

FORMAT_VERSION = 1
ROW_LENGTH = 1.0
"""Of a centred row; fingerprints cover it."""

TableName = Literal["centred", "raw", "learned", "projected"]
Storage = Literal["stored", "reference"]


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


@dataclass(frozen=True, kw_only=True)
class RoundTripRecord:
    """How words become one text, and which of them the language model's tokenizer splits out of it again."""

    separator: str
    """Between two words; of the usual ones that with which most words survive."""
    start: str
    """Before the first word: a space where tokens begin with one, otherwise nothing."""
    words: int
    lost: tuple[int, ...]
    """Ids of the words that do not come back, or not beside every other that was tried."""

    @property
    def survivors(self) -> int:
        """How many words come back."""
        return self.words - len(self.lost)

    def first(self, words: int) -> "RoundTripRecord":
        """Of the first words alone."""
        return dataclasses.replace(self, words=words, lost=tuple(number for number in self.lost if number < words))

    def join(self, words: Sequence[str]) -> str:
        """One text of words."""
        return self.start + self.separator.join(words)


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
    projected_width: int | None = None
    """Width to which the rows were brought by a fixed projection, or None."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Words kept, and words dropped by reason; they add up to the tokens of the model."""
    word_pattern: str = ""
    whole_words: bool = False
    max_words: int | None = None
    included: tuple[str, ...] = ()
    """Words that were kept whatever their rank."""
    denied_sha256: str = ""
    """Of the list of words that were left out."""
    frequencies_sha256: str = ""
    """Of the counts by which words were ranked, where a file gave them."""
    keep_outliers: bool = False
    """Whether words with an embedding far longer or shorter than the others were kept."""
    dropped_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The first of the words that were dropped for their embeddings, by reason."""
    embeddings: Storage = "stored"
    """reference: the folder holds no embeddings, as they may not be republished; loading finds them at their source."""
    rows_sha256: str = ""
    """Of the model's own rows of the kept words, float32 (K, W) in the order of ids, before any transform."""
    round_trip: RoundTripRecord | None = None
    license: str = ""
    source_terms: str = ""
    semantics: SemanticsRecord | None = None


OUTCOMES = ("counts", "dropped_words", "rows_sha256", "round_trip")
"""Fields of a record that follow from the others and the model."""
