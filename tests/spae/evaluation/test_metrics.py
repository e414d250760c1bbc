import math
from collections import Counter

import numpy as np
import pytest
import torch

from spae.evaluation.metrics import (
    ClipAgreement,
    Labelled,
    NearestPicture,
    PixelError,
    Rebuilt,
    WordAccuracy,
    WordCosines,
    WordLabels,
    derangement,
    psnr,
    wilson,
)
from spae.pyramid import TokenPyramid


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


@pytest.mark.parametrize("metric", [PixelError(), WordAccuracy({}), WordLabels(), ClipAgreement({}, [1])])
def test_nothing_counted_is_an_error(metric):
    with pytest.raises(ValueError, match=r"no .* were counted"):
        metric.compute()


def test_word_accuracy_counts_labelled_pictures_only():
    metric = WordAccuracy({10: 0, 11: 1})
    metric.update(Labelled(torch.tensor([10, 11, 10, 99, 11]), [0, 1, 1, 0, None]))
    assert (metric.compute().correct, metric.compute().samples) == (2, 4)
    other = WordAccuracy({10: 0, 11: 1})
    other.update(Labelled(torch.tensor([10]), [0]))
    metric.merge(other)
    assert metric.compute().share == pytest.approx(3 / 5)


def test_wilson_interval_matches_the_textbook_and_holds_its_share():
    score = wilson(45, 50)  # Wilson (1927): 0.7864 to 0.9565
    assert (score.low, score.high) == (pytest.approx(0.7864, abs=1e-4), pytest.approx(0.9565, abs=1e-4))
    for correct in (0, 1, 20):
        score = wilson(correct, 20)
        assert 0 <= score.low <= score.share <= score.high <= 1
        assert score.low < score.high


def test_the_learnt_map_is_the_best_there_is():
    generator = torch.Generator().manual_seed(3)
    words = torch.randint(0, 6, (400,), generator=generator)
    labels = ((words // 2 + (torch.rand(400, generator=generator) < 0.3)) % 3).tolist()
    learner, first, second = WordLabels(), WordLabels(), WordLabels()
    learner.update(Labelled(words, labels))
    first.update(Labelled(words[:150], labels[:150]))
    second.update(Labelled(words[150:], labels[150:]))
    first.merge(second)
    score, merged = learner.compute(), first.compute()
    assert score.answers == merged.answers
    score.update(Labelled(words, labels))
    pairs = Counter(zip(words.tolist(), labels, strict=True))
    most = sum(max(count for (word, _), count in pairs.items() if word == wanted) for wanted in range(6))
    assert score.compute().correct == most


def test_words_never_seen_mean_the_most_frequent_label_and_ties_the_lowest():
    learner = WordLabels()
    learner.update(Labelled(torch.tensor([5, 5, 6, 6, 7]), [2, 1, 3, 3, None]))
    learnt = learner.compute()
    assert learnt.answers == {5: 1, 6: 3}
    assert learnt.otherwise == 3
    learnt.update(Labelled(torch.tensor([7, 8]), [3, 1]))
    assert learnt.compute().share == 0.5


def test_clip_scores_are_mean_cosines_per_layer_and_cumulative():
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(6, 20, generator=generator)
    layers = tuple(torch.randint(0, 20, (6, side, side), generator=generator) for side in (1, 2, 4))
    whole, parts, other = (ClipAgreement({3: 0, 7: 1}, [1, 4, 16]) for _ in range(3))
    labels = [0, 1, None, 0, 1, 0]
    pyramid = TokenPyramid(layers)
    whole.update(WordCosines(cosines, pyramid, labels))
    parts.update(WordCosines(cosines[:2], pyramid[:2], labels[:2]))
    other.update(WordCosines(cosines[2:], pyramid[2:], labels[2:]))
    parts.merge(other)
    assert parts.compute() == whole.compute()
    score = whole.compute()
    expected = [cosines.double()[torch.arange(6)[:, None], layer.flatten(1)] for layer in layers]
    assert score.layers == pytest.approx([float(values.mean()) for values in expected])
    assert score.cumulative == pytest.approx([float(torch.cat(expected[:n], 1).mean()) for n in (1, 2, 3)])
    right = [(cosines[i, 3] > cosines[i, 7]) == (label == 0) for i, label in enumerate(labels) if label is not None]
    assert score.zero_shot is not None
    assert (score.zero_shot.correct, score.zero_shot.samples) == (sum(map(int, right)), 5)
    assert score.best_word is not None
    assert score.best_word.samples == 5


def test_clip_accuracy_is_missing_where_no_word_names_a_class():
    judgement = ClipAgreement({}, [1])
    judgement.update(WordCosines(torch.rand(2, 5), TokenPyramid((torch.zeros(2, 1, 1, dtype=torch.int64),)), [0, 1]))
    assert judgement.compute().zero_shot is None


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


@pytest.mark.parametrize("count", [2, 3, 17])
def test_a_derangement_leaves_nobody_in_place(count):
    for seed in range(20):
        partners = derangement(count, torch.Generator().manual_seed(seed))
        assert sorted(partners.tolist()) == list(range(count))
        assert (partners != torch.arange(count)).all()
    again = derangement(count, torch.Generator().manual_seed(19))
    assert torch.equal(partners, again)


def test_one_sample_has_nobody_to_exchange_with():
    with pytest.raises(ValueError, match="at least 2"):
        derangement(1, torch.Generator())
