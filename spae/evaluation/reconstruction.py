"""Scores of a model on a split: pixels for every number of layers, word usage, first words, and CLIP's opinion.

Two rules hold every score to account (facts 8.21): exchanging the words of two pictures must cost many dB, and a
decoder must beat the nearest training picture (`spae.evaluation.baselines`).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from spae.clip import ClipGuide, image_features
from spae.codebook.usage import LayerUsage
from spae.evaluation.baselines import Baselines, BaselineScore
from spae.evaluation.codecs import rebuild
from spae.evaluation.judging import Examiner, JudgedPictures, SeenPictures, parts_of
from spae.evaluation.metrics import Share, Sums
from spae.evaluation.pictures import EncodedBatch, decode_filled, encode_in_batches, first_words
from spae.evaluation.pixels import (
    SSIM_WINDOW,
    ExchangedError,
    ExchangedScore,
    FrameError,
    PixelError,
    PixelScore,
    Rebuilt,
    StructuralSimilarity,
)
from spae.evaluation.words import (
    ClipAgreement,
    ClipScore,
    Labelled,
    UsedWords,
    WordAccuracy,
    WordCosines,
    readable_words,
)
from spae.judges.base import View
from spae.model import SPAE, unit_pixels
from spae.vocabulary import Vocabulary


@dataclass(frozen=True)
class WordSimilarity:
    """CLIP, and its features of the model's words, float32 (K, E) (equation 5)."""

    guide: ClipGuide
    semantics: Tensor

    def cosines(self, pixels: Tensor) -> Tensor:
        """s' of equation 6, (B, K), of pixels (B, 3, H, W) float in [0, 1]."""
        return image_features(self.guide, pixels) @ self.semantics.to(self.guide.device).T


@dataclass(frozen=True)
class RebuiltScore:
    """How good rebuilt pictures are.

    Attributes:
        pixels: value by value.
        similarity: SSIM; None below 11 pixels.
        judged: figures of each judge.
        bits: of a picture; None where words rebuilt it.
        frames: PSNR of each frame of clips in dB; None of pictures.
    """

    pixels: PixelScore
    similarity: float | None
    judged: Mapping[str, Mapping[str, float]]
    bits: float | None
    frames: tuple[float, ...] | None


@dataclass(frozen=True)
class SplitScore:
    """All scores of a split.

    Attributes:
        samples: pictures that were scored.
        errors: samples that could not be decoded.
        rebuilt: by number of layers.
        usage: one a layer.
        readable: of each layer, the share of readable words, and that of the whole vocabulary; None without wordfreq.
        first_word: how often the first word is the class's name; None without labels or names.
        swapped: pixels from all layers where each picture got the words of another; None below two pictures.
        baselines: what the training split alone can do, if it was given.
        clip: CLIP's opinion, if it was asked.
        codecs: what others rebuild at the price of the first layers' words, by name and number of layers.
    """

    samples: int
    errors: int
    rebuilt: Mapping[int, RebuiltScore]
    usage: Sequence[LayerUsage]
    readable: tuple[Sequence[float], float] | None
    first_word: Share | None
    swapped: ExchangedScore | None
    baselines: BaselineScore | None
    clip: ClipScore | None
    codecs: Mapping[str, Mapping[int, RebuiltScore]]

    @property
    def pixels(self) -> dict[int, PixelScore]:
        """Of each number of layers, how far pictures are from their originals."""
        return {layers: score.pixels for layers, score in self.rebuilt.items()}


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """What is scored beside pixels and usage.

    Attributes:
        layers: numbers of layers to decode; all for None.
        class_words: label of each word that names a class.
        similarity: of pictures and words by CLIP, or None.
        thresholds: rho of the first layers, whose words' share in the pools it tells (equation 4).
        baselines: what the training split gave, or None.
        examiners: judges by name.
        judged_layers: numbers of layers whose pictures they see; all for None.
        splits: parts of the set for Inception scores, drawn by `seed` and key.
        codecs: others that rebuild the pictures at equal cost, names of `spae.evaluation.codecs`.
        rival: another model that does so from all its words, or None.
        batch: pictures of every pass of the models.
        count_originals: whether judges' statistics of the originals are counted; they may be known already.
        seed: of the parts.
    """

    layers: tuple[int, ...] | None = None
    class_words: Mapping[int, int]
    similarity: WordSimilarity | None = None
    thresholds: tuple[float, ...] = ()
    baselines: Baselines | None = None
    examiners: Mapping[str, Examiner] = field(default_factory=dict)
    judged_layers: tuple[int, ...] | None = None
    splits: int = 1
    codecs: tuple[str, ...] = ()
    rival: SPAE | None = None
    batch: int = 64
    count_originals: bool = True
    seed: int = 0


class RebuiltPictures(Sums):
    """All that is counted of one way to rebuild the pictures."""

    SUMS, PARTS = ("bits",), ("pixels", "frames", "similarity", "judged")

    def __init__(self, size: tuple[int, ...], options: SplitOptions, layers: int) -> None:
        self.pixels, self.bits = PixelError(), 0
        self.frames = FrameError(size[0]) if len(size) == 3 else None
        self.similarity = StructuralSimilarity() if min(size[-2:]) >= SSIM_WINDOW else None
        seen = options.judged_layers is None or layers in options.judged_layers
        judges = options.examiners if seen else {}
        self.judged = {name: JudgedPictures(one, options.splits) for name, one in judges.items()}

    def update(self, batch: Rebuilt, views: Mapping[str, View], parts: Tensor) -> None:
        """Count pictures, beside what judges saw in the originals."""
        self.pixels.update(batch)
        if self.frames is not None:
            self.frames.update(batch)
        if self.similarity is not None:
            self.similarity.update(batch)
        if self.judged:
            pictures = (batch.pictures * 255).round().byte()
            for name, judged in self.judged.items():
                judged.update(pictures, views[name], parts)

    def compute(self, references: Mapping[str, SeenPictures]) -> RebuiltScore:
        """The scores of all pictures so far."""
        pixels = self.pixels.compute()
        judged = {name: one.compute(references[name]) for name, one in self.judged.items()}
        similarity = None if self.similarity is None else self.similarity.compute()
        bits = self.bits / pixels.pictures if self.bits else None
        frames = None if self.frames is None else self.frames.compute()
        return RebuiltScore(pixels, similarity, judged, bits, frames)


RIVAL = "model"
"""Name of the other model among the codecs."""


class SplitMetrics(Sums):
    """A metric over `EncodedBatch` that holds all others; memory does not grow with the split."""

    SUMS = ("errors",)
    PARTS = ("rebuilt", "codecs", "originals", "swapped", "usage", "first_word", "clip", "baselines")

    def __init__(self, model: SPAE, options: SplitOptions) -> None:
        if options.similarity is not None and len(options.similarity.semantics) != len(model.vocabulary):
            raise ValueError(
                f"CLIP's features are of {len(options.similarity.semantics)} words, and the model has "
                f"{len(model.vocabulary)}; give those of its own words"
            )
        self.model, self.options, size = model, options, model.config.input_size
        self.words = list(itertools.accumulate(model.config.layer_sizes))
        chosen = options.layers or tuple(range(1, model.depth + 1))
        self.rebuilt = {str(layers): RebuiltPictures(size, options, layers) for layers in chosen}
        codecs = [(name, layers) for name in options.codecs for layers in chosen]
        codecs += [(RIVAL, options.rival.depth)] if options.rival else []
        self.codecs = {f"{name} {layers}": RebuiltPictures(size, options, layers) for name, layers in codecs}
        self.originals: dict[str, SeenPictures] = {}
        if options.count_originals:
            self.originals = {name: SeenPictures(one, options.splits) for name, one in options.examiners.items()}
        self.swapped, self.usage = ExchangedError(), UsedWords(len(model.vocabulary), model.depth)
        self.first_word = WordAccuracy(options.class_words)
        self.clip = None
        if options.similarity is not None:
            self.clip = ClipAgreement(options.class_words, model.config.layer_sizes, options.thresholds)
        self.baselines = options.baselines.fresh() if options.baselines else None
        self.errors = 0

    def update(self, batch: EncodedBatch) -> None:
        """Decode and count a batch, of at most the options' number of pictures."""
        self.errors += batch.errors
        if batch.pyramid is None:
            return
        originals = unit_pixels(batch.pixels).to(self.model.device)
        parts = parts_of(batch.keys, self.options.splits, self.options.seed)
        views = {name: one.view(batch.pixels) for name, one in self.options.examiners.items()}
        for name, seen in self.originals.items():
            seen.update(views[name], parts)
        rebuilt = decode_filled(self.model, batch.pyramid, self.options.batch)
        for layers, scores in self.rebuilt.items():
            pictures = rebuilt
            if int(layers) < self.model.depth:
                pictures = decode_filled(self.model, batch.pyramid, self.options.batch, int(layers))
            scores.update(Rebuilt(originals, pictures), views, parts)
        self._update_codecs(batch.pixels, originals, views, parts)
        self.swapped.update(Rebuilt(originals, rebuilt))
        self.usage.update(batch.pyramid)
        self.first_word.update(Labelled(first_words(batch.pyramid), batch.labels))
        if self.clip is not None and self.options.similarity is not None:
            self.clip.update(WordCosines(self.options.similarity.cosines(originals), batch.pyramid, batch.labels))
        if self.baselines is not None:
            self.baselines.update(batch)

    def compute(self, references: Mapping[str, SeenPictures] | None = None) -> SplitScore:
        """The scores of all samples so far, Frechet distances from `references`, by default the originals.

        ValueError where no picture could be decoded.
        """
        seen = self.originals if references is None else references
        rebuilt = {int(layers): one.compute(seen) for layers, one in self.rebuilt.items()}
        codecs: dict[str, dict[int, RebuiltScore]] = {}
        for at, one in self.codecs.items():
            name, layers = at.split(" ")
            codecs.setdefault(name, {})[int(layers)] = one.compute(seen)
        named, readable = (
            self.first_word.samples and self.options.class_words,
            readable_words(self.model.vocabulary.word_list),
        )
        return SplitScore(
            samples=next(iter(rebuilt.values())).pixels.pictures,
            errors=self.errors,
            rebuilt=rebuilt,
            usage=self.usage.compute(),
            readable=None if readable is None else (self.usage.shares(readable), float(readable.double().mean())),
            first_word=self.first_word.compute() if named else None,
            swapped=self.swapped.compute(),
            baselines=self.baselines.compute() if self.baselines else None,
            clip=self.clip.compute() if self.clip else None,
            codecs=codecs,
        )

    def _update_codecs(self, pixels: Tensor, originals: Tensor, views: Mapping[str, View], parts: Tensor) -> None:
        for at, scores in self.codecs.items():
            name, layers = at.split(" ")
            if name == RIVAL and self.options.rival is not None:
                rival, most = self.options.rival, self.options.batch
                pyramid = encode_in_batches(rival, pixels.movedim(1, -1).numpy(), most)
                pictures = decode_filled(rival, pyramid, most)
            else:
                made, bits = rebuild(name, pixels, self.words[int(layers) - 1], len(self.model.vocabulary))
                pictures, scores.bits = unit_pixels(made), scores.bits + bits
            scores.update(Rebuilt(originals, pictures.to(originals.device)), views, parts)


def words_of_classes(vocabulary: Vocabulary, names: Mapping[int, str]) -> dict[int, int]:
    """Label of each word id that is a class's name, upper or lower case; of classes of one name, the lowest label."""
    labels: dict[str, int] = {}
    for label, name in sorted(names.items()):
        labels.setdefault(name.casefold(), label)
    folded = {number: word.casefold() for number, word in enumerate(vocabulary.word_list)}
    return {number: labels[word] for number, word in folded.items() if word in labels}
