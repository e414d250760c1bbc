"""Scores of one row of the ablation table, layer by layer, with the network that is at hand as the judge.

The paper's figures need Inception-v3, LPIPS and a language model. Where they are missing a CLIP stands in: its image
features for FID and LPIPS, its zero-shot class probabilities for IS, and nearest class means of word embeddings for the
in-context classification. Such figures compare rows of one table only, and are named as stand-ins.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from spae.clip import ClipGuide, image_features, prompt_features
from spae.codebook.usage import WordUsage
from spae.data.records import SplitIndex
from spae.evaluation.distances import FeatureMoments, InceptionScore, frechet_distance
from spae.evaluation.few_shot import Episodes, LabelledFeatures, few_shot_accuracy
from spae.evaluation.pictures import EncodedBatch, encoded_batches
from spae.evaluation.pixels import PixelError, Rebuilt
from spae.evaluation.words import ClipAgreement, WordCosines
from spae.model import SPAE, unit_pixels
from spae.vocabulary import Vocabulary

_BATCH = 64
_LOGIT_SCALE = 100.0  # CLIP's own, at most; turns cosines into class probabilities


@dataclass(frozen=True)
class ClipStandIn:
    """CLIP, its features of the words (K, E) by word, and of the classes' names (n, E)."""

    guide: ClipGuide
    semantics: dict[str, Tensor]
    classes: Tensor

    @classmethod
    def create(cls, guide: ClipGuide, vocabulary: Vocabulary, names: dict[int, str]) -> "ClipStandIn":
        """From a vocabulary with semantics and the names of classes; ValueError without."""
        if vocabulary.semantics is None:
            raise ValueError("the vocabulary holds no semantics; build it with --clip")
        if not names:
            raise ValueError("the scored split has no classes; score one whose samples have labels")
        words = dict(zip(vocabulary.word_list, vocabulary.semantics, strict=True))
        classes = prompt_features(guide.model, guide.tokenizer, [names[label] for label in sorted(names)])
        return cls(guide, words, torch.nn.functional.normalize(classes, dim=1))

    def probabilities(self, features: Tensor) -> Tensor:
        """Class probabilities (B, n) of unit-norm image features (B, E)."""
        return (_LOGIT_SCALE * features.cpu() @ self.classes.T).softmax(1)


@dataclass(frozen=True)
class Splits:
    """The pictures that are scored, and those whose words are the examples of the few-shot classification."""

    scored: SplitIndex
    support: SplitIndex


class LayerScores:
    """What is counted of the reconstructions from the first layers."""

    def __init__(self, width: int, classes: int) -> None:
        self.moments, self.sureness = FeatureMoments(width), InceptionScore(classes)
        self.pixels = PixelError()
        self.distance_sum = 0.0

    def update(self, rebuilt: Rebuilt, stand_in: ClipStandIn, original_features: Tensor) -> None:
        """Count pictures."""
        features = image_features(stand_in.guide, rebuilt.pictures)
        self.pixels.update(rebuilt)
        self.moments.update(features)
        self.sureness.update(stand_in.probabilities(features))
        self.distance_sum += float((1 - (features * original_features).sum(1)).sum())


class RowScores:
    """All that is counted of a model on the scored split, in one pass; words are kept, a few hundred integers each.

    Args:
        model: the row's tokenizer.
        stand_in: CLIP.
        thresholds: rho of the row's guided layers (equation 4).
    """

    def __init__(self, model: SPAE, stand_in: ClipStandIn, thresholds: Sequence[float]) -> None:
        width, classes = stand_in.classes.shape[1], len(stand_in.classes)
        self.model, self.stand_in = model, stand_in
        self.layers = [LayerScores(width, classes) for _ in range(model.depth)]
        self.originals, self.usage = FeatureMoments(width), WordUsage(len(model.vocabulary), model.depth)
        self.semantics = torch.stack([stand_in.semantics[word] for word in model.vocabulary.word_list])
        self.words = ClipAgreement({}, model.config.layer_sizes, thresholds)
        self.batches: list[EncodedBatch] = []

    def update(self, batch: EncodedBatch) -> None:
        """Decode and count a batch."""
        if batch.pyramid is None:
            return
        self.batches.append(dataclasses.replace(batch, pixels=batch.pixels[:0]))
        pixels = unit_pixels(batch.pixels).to(self.model.device)
        features = image_features(self.stand_in.guide, pixels)
        self.originals.update(features)
        self.usage.update(batch.pyramid)
        cosines = features.cpu() @ self.semantics.T
        self.words.update(WordCosines(cosines, batch.pyramid, batch.labels))
        for number, layer_scores in enumerate(self.layers, 1):
            layer_scores.update(Rebuilt(pixels, self.model.decode(batch.pyramid, number)), self.stand_in, features)

    def layer(self, number: int) -> dict[str, Any]:
        """The columns of the table for the first layers, the few-shot accuracy aside, and how the last uses words."""
        scores, sizes = self.layers[number - 1], self.model.config.layer_sizes
        pictures = self.originals.count
        named = self.model.vocabulary.record.table != "learned"  # a learned row's word means nothing
        words = self.words.compute()
        hit = words.pools[number - 1].share if number <= len(words.pools) else None
        return {
            "tokens": sum(sizes[:number]),
            "frechet": frechet_distance(self.originals, scores.moments),
            "inception": scores.sureness.compute(),
            "distance": scores.distance_sum / pictures,
            "clip_score": words.cumulative[number - 1] if named else None,
            "psnr": scores.pixels.compute().psnr,
            "pool_hit": hit if named else None,
            **asdict(self.usage.compute()[number - 1]),
        }


def score_row(
    model: SPAE, stand_in: ClipStandIn, splits: Splits, thresholds: Sequence[float], episodes: Episodes
) -> dict[str, Any]:
    """The row's document: per number of layers all columns of the table."""
    scores = RowScores(model, stand_in, thresholds)
    for batch in encoded_batches(model, splits.scored.shards, _BATCH):
        scores.update(batch)
    support = list(encoded_batches(model, splits.support.shards, _BATCH))
    rows = []
    for number in range(1, model.depth + 1):
        known, asked = (word_features(model, batches, number) for batches in (support, scores.batches))
        rows.append({**scores.layer(number), "few_shot": asdict(few_shot_accuracy(known, asked, episodes))})
    return {"samples": scores.originals.count, "layers": rows}


def word_features(model: SPAE, batches: list[EncodedBatch], layers: int) -> LabelledFeatures:
    """Mean embedding of the words of the first layers, (N, C), of all samples that have a label."""
    features, labels = [], []
    for batch in batches:
        if batch.pyramid is None:
            continue
        kept = [row for row, label in enumerate(batch.labels) if label is not None]
        words = batch.pyramid.flatten(layers)[kept].to(model.device)
        features.append(model.codebook.embed(words).mean(1).cpu())
        labels += [label for label in batch.labels if label is not None]
    return LabelledFeatures(torch.cat(features), torch.tensor(labels))
