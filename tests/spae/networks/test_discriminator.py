import math

import pytest
import torch
import torch.nn.functional as F

from spae.config import DiscriminatorConfig
from spae.networks.discriminator import Discriminator, DiscriminatorBlock, block_factors

SMALL = DiscriminatorConfig(base_channels=4, channel_multipliers=(2, 4))


def test_a_block_is_stylegans():
    """(1x1(pool(x)) + conv(pool(conv(x)))) / sqrt 2, leaky slopes .2, written with functions."""
    block = DiscriminatorBlock((2, 2), (3, 5))
    x = torch.randn(2, 3, 8, 8)

    def leaky(y):
        return torch.where(y > 0, y, 0.2 * y)

    inner = leaky(F.conv2d(x, block.conv1.weight, block.conv1.bias, padding=1))
    inner = leaky(F.conv2d(F.avg_pool2d(inner, 2), block.conv2.weight, block.conv2.bias, padding=1))
    outer = F.conv2d(F.avg_pool2d(x, 2), block.shortcut.weight)
    torch.testing.assert_close(block(x), (inner + outer) / math.sqrt(2))


@pytest.mark.parametrize("size", [(16, 16), (4, 8, 8)])
def test_one_definition_judges_images_and_clips(size):
    judge = Discriminator(SMALL, size)
    logits = judge(torch.rand(3, 3, *size))
    assert logits.shape == (3,)
    assert len({round(float(logit), 6) for logit in logits}) == 3


def test_each_picture_is_judged_alone():
    judge, pictures = Discriminator(SMALL, (16, 16)), torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(judge(pictures)[2:3], judge(pictures[2:3]))


def test_the_paper_size_ends_at_four_by_four():
    judge = Discriminator(DiscriminatorConfig(base_channels=8), (128, 128))
    assert judge.head[0].in_features == 8 * 4 * 4 * 4


def test_sides_that_do_not_halve_are_named():
    with pytest.raises(ValueError, match=r"divisible by 4.*fewer discriminator\.channel_multipliers"):
        Discriminator(SMALL, (16, 18))


def test_sixteen_frames_of_128_pixels_end_at_one_by_four_by_four():
    """Frames stop halving where they are used up, as in MAGVIT; height and width go on."""
    with torch.device("meta"):
        judge = Discriminator(DiscriminatorConfig(), (16, 128, 128))
        assert judge(torch.empty(2, 3, 16, 128, 128)).shape == (2,)
    assert judge.head[0].in_features == 128 * 4 * 4 * 4
    with pytest.raises(ValueError, match="divisible by 32 in height and width"):
        Discriminator(DiscriminatorConfig(), (16, 128, 112))


def test_frames_halve_while_they_are_even():
    assert block_factors(SMALL, (6, 8, 8)) == [(2, 2, 2), (1, 2, 2)]
    assert block_factors(SMALL, (5, 8, 8)) == [(1, 2, 2), (1, 2, 2)]
