import pytest
import torch
from safetensors.torch import load, save

from spae.evaluation.distances import FeatureMoments, InceptionScore, MeanDistance
from spae.evaluation.metrics import Sums, wilson
from spae.evaluation.pixels import PixelError, Rebuilt, StructuralSimilarity
from spae.evaluation.words import ClipAgreement, WordAccuracy, WordLabels


class Both(Sums):
    """A metric of a number, a metric and a mapping of metrics."""

    SUMS, PARTS = ("errors",), ("pixels", "named", "absent")

    def __init__(self):
        self.errors, self.absent = 0, None
        self.pixels, self.named = PixelError(), {"a": FeatureMoments(2), "b": FeatureMoments(2)}


def counted(seed):
    made, generator = Both(), torch.Generator().manual_seed(seed)
    made.errors = seed
    made.pixels.update(Rebuilt(*torch.rand(2, 3, 3, 4, 4, generator=generator)))
    for one in made.named.values():
        one.update(torch.randn(5, 2, generator=generator))
    return made


def test_a_state_survives_its_file_to_the_last_bit():
    made, again = counted(3), Both()
    again.restore(load(save({name: value.contiguous() for name, value in made.state().items()})))
    assert again.state().keys() == made.state().keys()
    assert all(torch.equal(value, made.state()[name]) for name, value in again.state().items())
    assert isinstance(again.errors, int)
    assert isinstance(again.pixels.error_sum, float)


def test_merging_adds_every_sum_and_leaves_the_other_alone():
    one, other = counted(1), counted(2)
    before, added = one.state(), other.state()
    kept = {name: value.clone() for name, value in added.items()}
    one.merge(other)
    assert all(torch.equal(value, before[name] + added[name]) for name, value in one.state().items())
    assert all(torch.equal(value, kept[name]) for name, value in other.state().items())


def test_a_state_without_a_sum_is_an_error():
    with pytest.raises(KeyError):
        Both().restore({"errors": torch.tensor(1)})


@pytest.mark.parametrize(
    "metric",
    [
        PixelError(),
        WordAccuracy({}),
        WordLabels(),
        ClipAgreement({}, [1]),
        StructuralSimilarity(),
        MeanDistance(),
        InceptionScore(3),
    ],
)
def test_nothing_counted_is_an_error(metric):
    with pytest.raises(ValueError, match=r"no .* were counted"):
        metric.compute()


def test_wilson_interval_matches_the_textbook_and_holds_its_share():
    score = wilson(45, 50)  # Wilson (1927): 0.7864 to 0.9565
    assert (score.low, score.high) == (pytest.approx(0.7864, abs=1e-4), pytest.approx(0.9565, abs=1e-4))
    for correct in (0, 1, 20):
        score = wilson(correct, 20)
        assert 0 <= score.low <= score.share <= score.high <= 1
        assert score.low < score.high
