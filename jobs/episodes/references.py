"""References without a language model: the name of the example whose picture is nearest to the query's.

They answer the same episodes, so that the table can show what the pictures alone give, with the same intervals and
pairing. What a control does to words means nothing to them.
"""

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from jobs.episodes.asking import AskedQuestion
from jobs.episodes.pictures import SplitPictures
from spae.config import Grid
from spae.data.media import MediaError
from spae.data.order import random_generator
from spae.incontext import Answer, AnswerLimits
from spae.model import SPAE

REFERENCES = {
    "raw-pixels": ("raw-pixels", "nearest by Euclid's distance of pixels"),
    "k-means-words": ("k-means-words", "nearest by histograms of words that are k-means clusters of patches"),
}
"""Name and revision of each."""

Features = NDArray[np.float32]

_LEARNED_PICTURES = 2_000
_MOST_CLUSTERS = 256
_PATCHES_A_CLUSTER = 8
_PATCH_SIDE = 8


class PictureFeatures(Protocol):
    """What of pictures is compared."""

    power: int
    """Of differences: 1 for the sum of absolute ones, 2 for Euclid's distance."""

    def features(self, pixels: NDArray[np.uint8]) -> Features:
        """float32 (n, F) of uint8 (n, H, W, 3)."""


class RawPixels:
    """The pixels themselves, at the model's input size and crop, by Euclid's distance."""

    power = 2

    def features(self, pixels: NDArray[np.uint8]) -> Features:
        """Values in [0, 1], a row a picture."""
        return pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)


class KMeansWords:
    """Words of k-means, as many a picture as the model's first layers have.

    Each position of a layer's grid is a patch of the picture, brought to 8 x 8 pixels by averaging: the whole picture
    for the first layer, its quarters for the second. The patches of up to 2,000 pictures of the support split, drawn
    once and whatever their labels, are clustered (Euclid's distance, one cluster for eight patches, at most 256); a
    patch's word is its nearest cluster's. Pictures are compared by the sum of absolute differences between their
    histograms of words.

    Args:
        support: pictures to learn from.
        grids: of the first layers.

    ValueError where scikit-learn is not installed.
    """

    power = 1

    def __init__(self, support: SplitPictures, grids: Sequence[Grid]) -> None:
        try:
            from sklearn.cluster import MiniBatchKMeans
        except ModuleNotFoundError as error:
            raise ValueError(f"k-means-words needs scikit-learn: pip install 'spae[llm]' ({error})") from error
        self._grids = grids
        drawn = random_generator(0, 0, "k-means words").permutation(np.asarray(support.keys))[:_LEARNED_PICTURES]
        patches = self._patches(support.read(drawn.tolist())).reshape(-1, _PATCH_SIDE**2 * 3)
        clusters = min(_MOST_CLUSTERS, max(2, len(patches) // _PATCHES_A_CLUSTER))
        self._clusters = MiniBatchKMeans(clusters, random_state=0, n_init=3).fit(patches)

    def features(self, pixels: NDArray[np.uint8]) -> Features:
        """How often each word stands in each picture."""
        patches = self._patches(pixels)
        words = self._clusters.predict(patches.reshape(-1, patches.shape[-1])).reshape(len(pixels), -1)
        return np.stack([np.bincount(row, minlength=self._clusters.n_clusters) for row in words]).astype(np.float32)

    def _patches(self, pixels: NDArray[np.uint8]) -> Features:
        """float32 (n, words, F)."""
        pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        parts = []
        for height, width in self._grids:
            small = functional.adaptive_avg_pool2d(pictures, (height * _PATCH_SIDE, width * _PATCH_SIDE))
            parts.append(functional.unfold(small, _PATCH_SIDE, stride=_PATCH_SIDE).transpose(1, 2))
        return torch.cat(parts, 1).numpy()


class NearestPicture:
    """Answers with what the nearest example's picture is called, ties to the first."""

    revision = ""

    def __init__(self, support: SplitPictures, scored: SplitPictures, features: PictureFeatures) -> None:
        self._support, self._scored, self._features = support, scored, features

    def answer(self, asked: Sequence[AskedQuestion], limits: AnswerLimits) -> list[Answer]:
        """One answer a question; those of one episode stand together."""
        return [self._answer(one) for one in asked]

    def _answer(self, asked: AskedQuestion) -> Answer:
        started = time.perf_counter()
        try:
            examples = self._features.features(self._support.read(asked.episode.support_keys))
            query = self._features.features(self._scored.read([asked.question.key]))
        except MediaError as error:
            return Answer("", 0, 0, time.perf_counter() - started, f"{asked.question.key}: {error}")
        distances = (np.abs(examples - query) ** self._features.power).sum(1)
        name = asked.episode.support_names[int(distances.argmin())]
        return Answer(name, 0, 0, time.perf_counter() - started)


def open_reference(name: str, model: SPAE, support_shards: str, shards: str, layers: int) -> NearestPicture:
    """The reference of this name on the pictures of two splits, at the model's input size; ValueError as they raise."""
    height, width = model.config.input_size
    support, scored = (SplitPictures(folder, (height, width)) for folder in (support_shards, shards))
    features = RawPixels() if name == "raw-pixels" else KMeansWords(support, model.config.grids[:layers])
    return NearestPicture(support, scored, features)


def unseen_control(name: str, setting: str) -> str:
    """Why a control means nothing to a reference; empty where it does."""
    control = setting.partition("+")[2]
    if control in ("", "permuted-labels"):
        return ""
    return f"{name} sees pictures, and +{control} changes words"
