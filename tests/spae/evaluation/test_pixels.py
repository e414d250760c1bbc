import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from spae.evaluation.pixels import (
    ExchangedError,
    NearestPicture,
    PixelError,
    Rebuilt,
    StructuralSimilarity,
    psnr,
    structural_similarity,
)


def _pictures(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    originals = torch.rand(count, 3, 8, 8, generator=generator)
    return originals, (originals + 0.2 * torch.randn(count, 3, 8, 8, generator=generator)).clamp(0, 1)


def test_psnr_is_of_the_error_of_the_whole_set_and_of_each_picture():
    originals, rebuilt = _pictures(7)
    metric = PixelError()
    metric.update(Rebuilt(originals, rebuilt))
    score = metric.compute()
    errors = ((originals.double() - rebuilt.double()) ** 2).mean((1, 2, 3)).numpy()
    assert score.psnr == pytest.approx(10 * math.log10(1 / errors.mean()))
    assert score.psnr_mean == pytest.approx((10 * np.log10(1 / errors)).mean())
    assert score.psnr_mean > score.psnr, "Jensen: the mean of logarithms is above the logarithm of the mean"
    assert (score.pictures, score.mean_squared_error) == (7, pytest.approx(errors.mean()))


def test_an_exact_copy_has_a_finite_psnr():
    originals, _ = _pictures(2)
    metric = PixelError()
    metric.update(Rebuilt(originals, originals))
    assert (metric.compute().psnr, metric.compute().psnr_mean) == (pytest.approx(100), pytest.approx(100))
    assert psnr(0) == pytest.approx(100)
    assert psnr(0.01) == pytest.approx(20)


def test_batches_and_parts_add_up_to_the_whole():
    originals, rebuilt = _pictures(9)
    whole, parts, other = PixelError(), PixelError(), PixelError()
    whole.update(Rebuilt(originals, rebuilt))
    parts.update(Rebuilt(originals[:4], rebuilt[:4]))
    other.update(Rebuilt(originals[4:5], rebuilt[4:5]))
    other.update(Rebuilt(originals[5:], rebuilt[5:]))
    parts.merge(other)
    assert parts.compute().psnr == pytest.approx(whole.compute().psnr, abs=1e-12)
    assert parts.compute().psnr_mean == pytest.approx(whole.compute().psnr_mean, abs=1e-12)


def test_nearest_picture_is_exact_and_adds_up(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    candidates = torch.randint(0, 256, (23, 3, 6, 6), generator=generator, dtype=torch.uint8)
    queries = torch.randint(0, 256, (9, 3, 6, 6), generator=generator, dtype=torch.uint8)
    monkeypatch.setattr(NearestPicture, "_CHUNK", 7)
    metric, other = NearestPicture(candidates), NearestPicture(candidates)
    metric.update(queries[:4])
    other.update(queries[4:])
    metric.merge(other)
    squares = (queries[:, None].long() - candidates[None].long()).square().sum((2, 3, 4)).min(1).values
    assert metric.squared_sum == int(squares.sum())
    assert metric.compute() == pytest.approx(psnr(int(squares.sum()) / queries.numel() / 255**2))
    copy = NearestPicture(candidates)
    copy.update(candidates[5:6])
    assert copy.compute() == pytest.approx(100)


def test_nearest_picture_needs_bytes():
    with pytest.raises(ValueError, match="must be uint8"):
        NearestPicture(torch.rand(2, 3, 4, 4))


def test_psnr_and_ssim_are_those_of_torchmetrics():
    originals, rebuilt = (torch.nn.functional.interpolate(one, (24, 20)) for one in _pictures(5))
    _, theirs = structural_similarity_index_measure(rebuilt, originals, data_range=1.0, return_full_image=True)
    inside = theirs[..., 5:-5, 5:-5].mean((1, 2, 3))  # where the window does not reach over the border
    torch.testing.assert_close(structural_similarity(Rebuilt(originals, rebuilt)), inside, rtol=1e-4, atol=1e-5)
    metric = PixelError()
    metric.update(Rebuilt(originals, rebuilt))
    assert metric.compute().psnr == pytest.approx(float(peak_signal_noise_ratio(rebuilt, originals, 1.0)), abs=1e-4)


def test_ssim_of_a_copy_is_1_and_parts_add_up():
    originals, rebuilt = (torch.nn.functional.interpolate(one, (16, 16)) for one in _pictures(5))
    copy, whole, parts, other = (StructuralSimilarity() for _ in range(4))
    copy.update(Rebuilt(originals, originals))
    assert copy.compute() == pytest.approx(1)
    whole.update(Rebuilt(originals, rebuilt))
    parts.update(Rebuilt(originals[:2], rebuilt[:2]))
    other.update(Rebuilt(originals[2:], rebuilt[2:]))
    parts.merge(other)
    assert parts.compute() == pytest.approx(whole.compute(), rel=1e-9)


def test_exchanged_pictures_are_all_pairs_whatever_the_batches():
    originals, rebuilt = _pictures(7)
    differences = (originals[:, None].double() - rebuilt[None].double()).square().mean((2, 3, 4))
    expected = float(differences[~torch.eye(7, dtype=torch.bool)].mean())
    for sizes in ([7], [3, 4], [1, 1, 5], [2, 2, 2, 1]):
        whole = ExchangedError()
        for one, other in zip(originals.split(sizes), rebuilt.split(sizes), strict=True):
            part = ExchangedError()
            part.update(Rebuilt(one, other))
            whole.merge(part)
        assert whole.compute().mean_squared_error == pytest.approx(expected, rel=1e-9)
        assert whole.compute().psnr == pytest.approx(psnr(expected), rel=1e-9)


def test_a_lone_picture_has_nobody_to_exchange_with():
    originals, rebuilt = _pictures(1)
    lone = ExchangedError()
    assert lone.compute() is None
    lone.update(Rebuilt(originals, rebuilt))
    assert lone.compute() is None
