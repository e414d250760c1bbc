import pytest

from spae.config import OptimizerConfig
from spae.presets import PRESETS
from spae.training.schedule import judged_frames, learning_rate


def test_the_schedule_warms_up_decays_and_cools_down():
    config = OptimizerConfig(learning_rate=1e-4, warmup_steps=5_000, cooldown_steps=50_000)
    rates = {
        step: learning_rate(step, 450_000, config) for step in (0, 2_499, 4_999, 19_999, 399_999, 424_999, 450_000)
    }
    assert rates[0] == pytest.approx(1e-4 / 5_000)
    assert rates[2_499] == pytest.approx(0.5e-4)
    assert rates[4_999] == pytest.approx(1e-4)
    assert rates[19_999] == pytest.approx(1e-4 * (5_000 / 20_000) ** 0.5)
    assert rates[424_999] == pytest.approx(1e-4 * (5_000 / 425_000) ** 0.5 * 25_001 / 50_000)
    assert rates[450_000] == 0


def test_a_shorter_warm_up_leaves_the_rest_of_the_schedule_alone():
    short, long = (OptimizerConfig(warmup_steps=steps) for steps in (1_000, 5_000))
    for step in range(5_000, 450_000, 10_000):
        assert learning_rate(step, 450_000, short) == learning_rate(step, 450_000, long)
    assert learning_rate(999, 450_000, short) == short.learning_rate


def test_the_time_scale_is_where_the_rate_begins_to_fall():
    config = OptimizerConfig(warmup_steps=100, timescale_steps=1_000)
    assert learning_rate(999, 10**6, config) == config.learning_rate
    assert learning_rate(3_999, 10**6, config) == pytest.approx(config.learning_rate / 2)


def test_the_perceptual_network_sees_other_frames_every_step():
    config = PRESETS["video-128"]
    drawn = [judged_frames(step, config) for step in range(40)]
    assert all(len(set(frames)) == 4 and frames == sorted(frames) for frames in drawn)
    assert {frame for frames in drawn for frame in frames} == set(range(16))
    assert judged_frames(7, config) == drawn[7]
    assert judged_frames(0, PRESETS["image-128"]) is None
