"""What judges say of a set of pictures and of what was rebuilt of them: sums that merge, features at one batch shape.

A network's features depend on the batch size in the last bits: every pass has exactly the same number of pictures, the
last one filled up. Pictures are judged as bytes, as others would read them from files (facts 8.20).
"""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spae.evaluation.distances import FeatureMoments, InceptionScore, MeanDistance, frechet_distance
from spae.evaluation.metrics import Sums
from spae.evaluation.pixels import as_pictures
from spae.judges.base import DISTANCE, FRECHET, INCEPTION, Judge, View


class Examiner:
    """A judge at work on pictures or clips of one size; of clips a judge of pictures sees each frame by itself.

    Args:
        judge: on its device.
        size: *S of what is judged.
        batch: pictures of every pass, or clips of a judge of clips.

    Raises:
        ValueError: they are too small for it, or pictures, and it judges clips.
    """

    def __init__(self, judge: Judge, size: tuple[int, ...], batch: int) -> None:
        self.judge, self.batch = judge, batch
        self.device = next(judge.parameters()).device
        if judge.OF_CLIPS and len(size) == 2:
            raise ValueError(f"{judge.record.name} judges clips, and the model takes pictures of {size}; take another")
        try:
            one = self._judged(torch.zeros(1, 3, *size, dtype=torch.uint8))[:1]
            with torch.inference_mode():
                view = self.judge(one.to(self.device))
        except RuntimeError as error:
            raise ValueError(f"{judge.record.name} cannot judge pictures of {size}: {error}; take another") from error
        self.width = 0 if view.features is None else view.features.shape[1]
        self.classes = 0 if view.logits is None else view.logits.shape[1]

    def gives(self, kind: str) -> bool:
        """Whether the judge has such a figure."""
        return kind in self.judge.record.figures

    @torch.inference_mode()
    def view(self, pixels: Tensor) -> View:
        """What the judge sees in uint8 pictures (B, 3, H, W) or clips (B, 3, T, H, W), B at most `batch`.

        A judge of pictures sees B x T frames of clips.
        """
        judged = self._judged(pixels)
        return _joined([self._pass(part) for part in judged.split(self.batch)])

    def _judged(self, pixels: Tensor) -> Tensor:
        return pixels if self.judge.OF_CLIPS else as_pictures(pixels)

    def _pass(self, pixels: Tensor) -> View:
        count = len(pixels)
        filled = torch.cat([pixels, pixels.new_zeros(self.batch - count, *pixels.shape[1:])])
        view = self.judge(filled.to(self.device))
        features, logits = (None if one is None else one[:count] for one in (view.features, view.logits))
        return View(features, logits, tuple(one[:count] for one in view.maps))


def _joined(views: Sequence[View]) -> View:
    if len(views) == 1:
        return views[0]
    features = [view.features for view in views if view.features is not None]
    logits = [view.logits for view in views if view.logits is not None]
    maps = zip(*(view.maps for view in views), strict=True)
    return View(
        torch.cat(features) if features else None,
        torch.cat(logits) if logits else None,
        tuple(torch.cat(parts) for parts in maps),
    )


class SeenPictures(Sums):
    """Features and class probabilities of a set of pictures, as one judge sees them.

    Args:
        examiner: the judge.
        splits: parts for its Inception score.
    """

    PARTS = ("moments", "sureness")

    def __init__(self, examiner: Examiner, splits: int) -> None:
        self.moments = FeatureMoments(examiner.width) if examiner.gives(FRECHET) else None
        self.sureness = InceptionScore(examiner.classes, splits) if examiner.gives(INCEPTION) else None

    def update(self, view: View, parts: Tensor) -> None:
        """Count pictures, each in its part of the set, int64 (B,); all frames of a clip are in the clip's part."""
        if self.moments is not None and view.features is not None:
            self.moments.update(view.features)
        if self.sureness is not None and view.logits is not None:
            frames = len(view.logits) // len(parts)
            self.sureness.update(view.logits.double().softmax(1), parts.repeat_interleave(frames))


class JudgedPictures(Sums):
    """The same of rebuilt pictures, with their distances from the originals."""

    PARTS = ("seen", "distance")

    def __init__(self, examiner: Examiner, splits: int) -> None:
        self.examiner, self.seen = examiner, SeenPictures(examiner, splits)
        self.distance = MeanDistance() if examiner.gives(DISTANCE) else None

    def update(self, pictures: Tensor, originals: View, parts: Tensor) -> None:
        """Count rebuilt pictures or clips uint8 (B, 3, *S) beside what was seen in their originals."""
        view = self.examiner.view(pictures)
        self.seen.update(view, parts)
        if self.distance is not None:
            self.distance.update(self.examiner.judge.distances(view, originals))

    def compute(self, reference: SeenPictures) -> dict[str, float]:
        """The judge's figures by its own names; a Frechet distance, from the reference, needs two pictures."""
        names, found = self.examiner.judge.record.figures, {}
        if self.seen.moments is not None and reference.moments is not None and self.seen.moments.count > 1:
            found[names[FRECHET]] = frechet_distance(reference.moments, self.seen.moments)
        if self.seen.sureness is not None:
            found[names[INCEPTION]] = self.seen.sureness.compute()
        if self.distance is not None:
            found[names[DISTANCE]] = self.distance.compute()
        return found


def parts_of(keys: Sequence[str], splits: int, seed: int) -> Tensor:
    """The part of the set that each picture belongs to, by its key alone, int64 (B,)."""
    digests = (hashlib.sha256(f"{seed}:{key}".encode()).digest() for key in keys)
    return torch.tensor([int.from_bytes(digest[:8], "big") % splits for digest in digests], dtype=torch.int64)


def statistics_sha256(seen: Mapping[str, SeenPictures]) -> dict[str, str]:
    """Of each judge, the hash of what it saw: equal for equal statistics, to the last bit."""
    return {name: _digest(one.state()) for name, one in seen.items()}


def _digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
