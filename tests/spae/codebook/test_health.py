import pytest
import torch

from spae.codebook.health import problems
from spae.codebook.usage import WordUsage
from spae.pyramid import TokenPyramid


def usage(*layers):
    counts = WordUsage(10, len(layers))
    grids = [torch.tensor(layer)[None, None, :] for layer in layers]
    counts.update(TokenPyramid(tuple(grids)))
    return counts.compute()


EVEN, COLLAPSED = [0, 1, 2, 3], [5, 5, 5, 1]


def test_a_healthy_codebook_has_no_problems():
    assert problems(usage(EVEN, EVEN), [0.9, 1.1], 0.2) == []


@pytest.mark.parametrize(
    ("layers", "radii", "repeats", "sentence"),
    [
        ((EVEN, COLLAPSED), [1.0, 1.0], None, "layer 2 has collapsed: one word takes 75% of its tokens"),
        ((EVEN, EVEN), [1.0, 2.5], None, "layer 2: |z| is 2.50 of the table's radius, outside (0.5, 2.0)"),
        ((EVEN, EVEN), [0.3, 1.0], None, "layer 1: |z| is 0.30 of the table's radius, outside (0.5, 2.0)"),
        ((EVEN, EVEN), [1.0, 1.0], 0.98, "layer 2 repeats the word of the layer before at 98% of its positions"),
        ((EVEN, EVEN), [1.0, float("nan")], None, "layer 2: |z| is nan of the table's radius, outside (0.5, 2.0)"),
    ],
)
def test_each_sign_is_named(layers, radii, repeats, sentence):
    assert problems(usage(*layers), radii, repeats) == [sentence]
