import pytest
import torch

from spae.training.average import ema_decay, update_average
from tests import tiny_spae

CONFIG = tiny_spae.TRAINING


def test_the_average_follows_the_formula():
    model, average = tiny_spae.model(0), tiny_spae.model(1)
    before = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    update_average(average, model, 0.9)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(average.state_dict()[name], 0.9 * before[name] + 0.1 * tensor)
    assert ema_decay(0, CONFIG.optimizer) == pytest.approx(0.1)
    assert ema_decay(10_000, CONFIG.optimizer) == CONFIG.optimizer.ema_decay
