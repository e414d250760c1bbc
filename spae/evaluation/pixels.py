"""How far rebuilt pictures are from their originals: PSNR and SSIM, and two figures to hold them against."""

import copy
import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spae.evaluation.metrics import Sums, counted

SMALLEST_ERROR = 1e-10
"""Mean squared errors below count as this one: 100 dB, so that an exact copy has a finite PSNR."""
SSIM_WINDOW = 11
"""Pixels a side of the window that SSIM moves over a picture, which must be as large."""
_SSIM_SIGMA = 1.5
_SSIM_CONSTANTS = (0.01**2, 0.03**2)


@dataclass(frozen=True)
class Rebuilt:
    """Pictures and what was rebuilt of them: both float (B, 3, *S) in [0, 1]."""

    originals: Tensor
    pictures: Tensor


def as_pictures(pixels: Tensor) -> Tensor:
    """Clips (B, 3, T, H, W) as pictures (B x T, 3, H, W), frame after frame; pictures as they are."""
    return pixels.transpose(1, 2).flatten(0, 1) if pixels.ndim == 5 else pixels


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1], at most 100."""
    return -10 * math.log10(max(mean_squared_error, SMALLEST_ERROR))


@dataclass(frozen=True)
class PixelScore:
    """How far pictures are from their originals."""

    psnr: float
    """dB, of the mean squared error over all values of the set; the figure to quote."""
    psnr_mean: float
    """dB, mean over the pictures of each one's own PSNR: higher, for a few good pictures weigh more."""
    mean_squared_error: float
    pictures: int


class PixelError(Sums):
    """Squared error of rebuilt pictures, all values of the set weighing the same."""

    SUMS = ("error_sum", "psnr_sum", "pictures")

    def __init__(self) -> None:
        self.error_sum = self.psnr_sum = 0.0  # of the pictures' own mean squared errors and PSNR
        self.pictures = 0

    def update(self, batch: Rebuilt) -> None:
        """Count pictures (B, 3, *S), all of one size."""
        difference = batch.originals.double() - batch.pictures.double()
        errors = difference.square().flatten(1).mean(1)
        self.error_sum += float(errors.sum())
        self.psnr_sum += float((-10 * errors.clamp_min(SMALLEST_ERROR).log10()).sum())
        self.pictures += len(errors)

    def compute(self) -> PixelScore:
        """The scores of all pictures so far."""
        count = counted(self.pictures, "pictures")
        error = self.error_sum / count
        return PixelScore(psnr(error), self.psnr_sum / count, error, count)


class FrameError(Sums):
    """Squared error of each frame of rebuilt clips.

    Args:
        frames: of a clip.
    """

    SUMS = ("error_sums", "clips")

    def __init__(self, frames: int) -> None:
        self.error_sums, self.clips = torch.zeros(frames, dtype=torch.float64), 0

    def update(self, batch: Rebuilt) -> None:
        """Count clips (B, 3, T, H, W)."""
        difference = batch.originals.double() - batch.pictures.double()
        self.error_sums = self.error_sums + difference.square().mean((1, 3, 4)).sum(0).cpu()
        self.clips += len(difference)

    def compute(self) -> tuple[float, ...]:
        """PSNR in dB of each frame, of the mean squared error over all clips."""
        count = counted(self.clips, "clips")
        return tuple(psnr(error / count) for error in self.error_sums.tolist())


class StructuralSimilarity(Sums):
    """SSIM (Wang et al. 2004): Gaussian window of 11 and sigma 1.5 inside the picture, each channel by itself."""

    SUMS = ("similarity_sum", "pictures")

    def __init__(self) -> None:
        self.similarity_sum, self.pictures = 0.0, 0

    def update(self, batch: Rebuilt) -> None:
        """Count pictures (B, 3, H, W), or the frames of clips, H and W at least 11."""
        similarities = structural_similarity(batch)
        self.similarity_sum += float(similarities.double().sum())
        self.pictures += len(similarities)

    def compute(self) -> float:
        """The mean over the pictures, at most 1."""
        return self.similarity_sum / counted(self.pictures, "pictures")


def structural_similarity(batch: Rebuilt) -> Tensor:
    """SSIM of each picture, (B,), or of each frame of clips, (B x T,)."""
    moments = [as_pictures(batch.originals), as_pictures(batch.pictures)]
    moments += [moments[0].square(), moments[1].square(), moments[0] * moments[1]]
    mean1, mean2, square1, square2, product = (_window_means(one) for one in moments)
    variance1, variance2 = square1 - mean1.square(), square2 - mean2.square()
    first, second = _SSIM_CONSTANTS
    numerator = (2 * mean1 * mean2 + first) * (2 * (product - mean1 * mean2) + second)
    denominator = (mean1.square() + mean2.square() + first) * (variance1 + variance2 + second)
    return (numerator / denominator).mean((1, 2, 3))


def _window_means(values: Tensor) -> Tensor:
    line = _gaussian().to(values)
    flat = values.flatten(0, 1)[:, None]
    means = F.conv2d(F.conv2d(flat, line[None, None, None]), line[None, None, :, None])
    return means.view(*values.shape[:2], *means.shape[2:])


@functools.cache
def _gaussian() -> Tensor:
    places = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weights = (-places.square() / (2 * _SSIM_SIGMA**2)).exp()
    return weights / weights.sum()


@dataclass(frozen=True)
class ExchangedScore:
    """How far pictures are from what the words of others rebuild."""

    psnr: float
    mean_squared_error: float
    pictures: int


class ExchangedError(Sums):
    """The mean squared error where each picture gets the words of another, over all ordered pairs of the set.

    From sums alone: it depends on no order, batch or shard, and memory is that of two pictures.
    """

    SUMS = ("originals", "pictures", "squares", "own_error", "count")

    def __init__(self) -> None:
        self.originals = self.pictures = torch.zeros(0, dtype=torch.float64)  # sums, (values,)
        self.squares, self.own_error, self.count = 0.0, 0.0, 0

    def update(self, batch: Rebuilt) -> None:
        """Count pictures (B, 3, *S), all of one size."""
        originals, pictures = (one.detach().double().cpu().flatten(1) for one in (batch.originals, batch.pictures))
        if not len(self.originals):
            self.originals, self.pictures = torch.zeros_like(originals[0]), torch.zeros_like(pictures[0])
        self.originals = self.originals + originals.sum(0)
        self.pictures = self.pictures + pictures.sum(0)
        self.squares += float(originals.square().sum() + pictures.square().sum())
        self.own_error += float((originals - pictures).square().sum())
        self.count += len(originals)

    def merge(self, other: "ExchangedError") -> None:
        """Add what another counted."""
        if self.count and other.count:
            super().merge(other)
        elif other.count:
            self.restore(other.state())

    def compute(self) -> ExchangedScore | None:
        """The score; None below two pictures, which have nobody to exchange with."""
        if self.count < 2:
            return None
        pairs = self.count * (self.count - 1) * len(self.originals)
        total = self.count * self.squares - 2 * float(self.originals @ self.pictures) - self.own_error
        return ExchangedScore(psnr(total / pairs), total / pairs, self.count)


class NearestPicture(Sums):
    """What a lookup would reach: the error of returning the nearest of a set of pictures, by exact search.

    Holds that set, as uint8 (N, 3, *S): N x 3 x H x W bytes, and eight times that of one chunk while searching.
    """

    SUMS = ("squared_sum", "values")
    _CHUNK = 1024

    def __init__(self, candidates: Tensor) -> None:
        if candidates.dtype != torch.uint8 or len(candidates) == 0:
            raise ValueError(f"candidates {tuple(candidates.shape)} {candidates.dtype} must be uint8 (N, 3, *S), N > 0")
        self.candidates = candidates.flatten(1)
        self.squared_sum, self.values = 0, 0

    def fresh(self) -> "NearestPicture":
        """The same candidates, with nothing counted."""
        one = copy.copy(self)
        one.squared_sum, one.values = 0, 0
        return one

    def update(self, batch: Tensor) -> None:
        """Count pictures uint8 (B, 3, *S)."""
        queries = batch.flatten(1).double()  # sums of squares of bytes are exact in float64
        best = torch.full((len(queries),), math.inf, dtype=torch.float64)
        for chunk in self.candidates.split(self._CHUNK):
            rows = chunk.double()
            distances = queries.square().sum(1)[:, None] + rows.square().sum(1) - 2 * queries @ rows.T
            best = torch.minimum(best, distances.min(1).values)
        self.squared_sum += int(best.sum())
        self.values += queries.numel()

    def compute(self) -> float:
        """PSNR in dB, of the mean squared error over all values of the set."""
        return psnr(self.squared_sum / counted(self.values, "pictures") / 255**2)
