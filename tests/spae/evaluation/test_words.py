from collections import Counter

import pytest
import torch

from spae.evaluation.words import (
    ClipAgreement,
    Labelled,
    UsedWords,
    WordAccuracy,
    WordCosines,
    WordLabels,
    readable_words,
)
from spae.pyramid import TokenPyramid


def test_word_accuracy_counts_labelled_pictures_only():
    metric = WordAccuracy({10: 0, 11: 1})
    metric.update(Labelled(torch.tensor([10, 11, 10, 99, 11]), [0, 1, 1, 0, None]))
    assert (metric.compute().correct, metric.compute().samples) == (2, 4)
    other = WordAccuracy({10: 0, 11: 1})
    other.update(Labelled(torch.tensor([10]), [0]))
    metric.merge(other)
    assert metric.compute().share == pytest.approx(3 / 5)


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


def test_relative_scores_put_the_best_word_at_1_and_the_worst_at_0():
    cosines = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.1, 0.3]])
    agreement = ClipAgreement({}, [1, 1])
    words = TokenPyramid((torch.tensor([[[2]], [[0]]]), torch.tensor([[[1]], [[1]]])))
    agreement.update(WordCosines(cosines, words, [None, None]))
    assert agreement.compute().relative == pytest.approx((1.0, 0.25))


def test_readable_are_words_that_people_use():
    readable = readable_words(["water", " house", "##qzx", "zyzzyvas", "the"])
    assert readable.tolist() == [True, True, False, False, True]
    used = UsedWords(5, 2)
    used.update(TokenPyramid((torch.tensor([[[0]], [[2]]]), torch.tensor([[[3, 2]], [[2, 4]]]))))
    assert used.shares(readable) == pytest.approx([1 / 2, 1 / 4])


def test_the_share_in_the_pools_stands_beside_that_of_words_drawn_from_all():
    cosines = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.1, 0.4]])
    agreement = ClipAgreement({}, [1, 2], thresholds=(1.0, 0.45, 0.4))
    words = TokenPyramid((torch.tensor([[[2]], [[1]]]), torch.tensor([[[1, 0]], [[0, 2]]])))
    agreement.update(WordCosines(cosines, words, [None, None]))
    first, second = agreement.compute().pools
    assert (first.threshold, first.share, first.uniform) == (1.0, 0.5, pytest.approx(1 / 3))
    assert (second.threshold, second.share, second.uniform) == (0.45, 0.75, pytest.approx(2 / 3))
