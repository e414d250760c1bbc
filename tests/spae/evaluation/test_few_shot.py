import pytest
import torch

from spae.evaluation.few_shot import Episodes, LabelledFeatures, few_shot_accuracy


def split(separation, seed, classes=8, each=20):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(each)
    centres = torch.nn.functional.one_hot(labels, 12).float() * separation
    return LabelledFeatures(centres + torch.randn(len(labels), 12, generator=generator), labels)


def test_classes_far_apart_are_told_and_features_of_noise_are_not():
    assert few_shot_accuracy(split(50, 0), split(50, 1), Episodes(number=50)).accuracy == 1
    chance = few_shot_accuracy(split(0, 0), split(0, 1), Episodes(number=400))
    assert chance.low < 0.2 < chance.high
    assert chance.high - chance.low < 0.06


def test_equal_features_are_chance_exactly():
    labels = torch.arange(8).repeat(5)
    same = LabelledFeatures(torch.ones(40, 3), labels)
    assert few_shot_accuracy(same, same, Episodes(number=20)).accuracy == pytest.approx(0.2)


def test_more_shots_help():
    one, five = (
        few_shot_accuracy(split(2, 0), split(2, 1), Episodes(shots=shots, number=200)).accuracy for shots in (1, 5)
    )
    assert five > one + 0.05


def test_the_seed_decides():
    first, again, other = (few_shot_accuracy(split(2, 0), split(2, 1), Episodes(seed=s, number=50)) for s in (0, 0, 1))
    assert first == again
    assert first != other


def test_what_cannot_be_drawn_is_named():
    with pytest.raises(ValueError, match="fewer than ways=9"):
        few_shot_accuracy(split(1, 0), split(1, 1), Episodes(ways=9))
    with pytest.raises(ValueError, match="fewer than shots=21"):
        few_shot_accuracy(split(1, 0), split(1, 1), Episodes(shots=21))
