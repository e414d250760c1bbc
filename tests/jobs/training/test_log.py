import time

import torch

from jobs.training.log import TrainingLog
from jobs.training.run_folder import read_history
from jobs.training.usage import UsageMeter
from spae.data.batch import Batch
from spae.pyramid import TokenPyramid
from spae.quantizers import Quantized
from spae.training.schedule import learning_rate
from spae.training.step import StepResult
from tests import tiny_spae


class Told:
    """The log and usage of a training whose every step sees 8 samples."""

    def __init__(self, folder, samples=16, thresholds=()):
        self.log = TrainingLog(str(folder), tiny_spae.TRAINING, 0, 0)
        self.usage = UsageMeter(tiny_spae.model(), samples, 0, thresholds)
        self.step = 0

    def take(self, words, *, finite=True, keys=("a", "b"), undecodable=0):
        """A step whose every word is drawn from `words`."""
        layers = tuple(torch.tensor(words).repeat(99)[: 2 * h * w].view(2, h, w) for h, w in tiny_spae.CONFIG.grids)
        quantized = Quantized(torch.zeros(1), TokenPyramid(layers), (), ())
        self.terms = {f"latent_radius/{number}": torch.tensor(1.0) for number in range(1, 5)}
        self.terms |= {"pixel": torch.tensor(0.1), "commitment": torch.tensor(1.0), "repeats": torch.tensor(0.1)}
        self.terms |= {"pool_size/1": torch.tensor(30.0), "pool_size/2": torch.tensor(2.0)}
        self.terms |= {"skipped": torch.tensor(float(not finite)), "culprits": torch.tensor(float(not finite))}
        batch = Batch(torch.zeros(2, 3, 16, 16), torch.zeros(2, 0), keys, (0, 1), undecodable)
        self.usage.update(quantized.tokens)
        self.log.update(StepResult(self.terms, quantized, torch.tensor(finite), torch.tensor([finite, True])), batch)
        self.step += 1

    def line(self):
        """What an epoch's end tells."""
        self.log.line(self.step, self.terms, self.usage.take_recent())
        if health := self.usage.end_epoch(8 * self.step, self.terms):
            self.log.epoch(health)
        return health


def test_samples_of_a_step_that_was_not_finite_are_named_at_the_next_line(tmp_path, caplog):
    caplog.set_level("INFO")
    told = Told(tmp_path)
    told.take([1, 2, 3])
    told.take([1, 2, 3], finite=False, keys=("bad-key", "its-neighbour"))
    told.line()
    assert "a loss was not finite, by samples bad-key\n" in caplog.text
    assert "1 of 2 steps were skipped" in caplog.text
    assert told.log.history[-1]["skipped"] == 1
    caplog.clear()
    told.take([1, 2, 3])
    told.line()
    assert "not finite" not in caplog.text


def test_the_health_of_an_epoch_is_told_once_it_ends(tmp_path, caplog):
    caplog.set_level("INFO")
    told = Told(tmp_path)
    told.take([1, 2, 3])
    assert told.line() is None
    assert "epoch" not in caplog.text
    told.take([4, 5])
    assert told.line().problems == []
    assert "epoch 1, layer 4: 5 words (12%)" in caplog.text
    assert told.log.history[-1]["epoch_words/4"] == 5
    assert "epoch_words/4" not in told.log.history[0]


def test_a_collapsed_layer_is_warned_of_and_returned(tmp_path, caplog):
    told = Told(tmp_path, samples=8)
    told.take([7])
    found = told.line().problems
    assert found[0] == "layer 1 has collapsed: one word takes 100% of its tokens"
    assert found[0] in caplog.text


def test_pools_of_an_unusual_size_are_warned_of_and_stop_nothing(tmp_path, caplog):
    told = Told(tmp_path, samples=8, thresholds=(0.98, 0.9))
    told.take([1, 2, 3])
    health = told.line()
    assert health.problems == []
    assert [sentence.split(":")[0] for sentence in health.pools] == ["layer 1"]
    assert "pools of 30.0 words at threshold 0.98" in caplog.text


def test_rows_after_the_step_of_the_checkpoint_are_dropped(tmp_path):
    told = Told(tmp_path)
    for _ in range(3):
        told.take([1, 2])
        told.line()
    told.log.validation(2, 20.0)
    told.log.publish()
    assert [row["step"] for row in read_history(str(tmp_path))] == [1, 2, 3]
    assert read_history(str(tmp_path))[-1]["validation_psnr"] == 20
    resumed = TrainingLog(str(tmp_path), tiny_spae.TRAINING, 2, 0)
    assert [row["step"] for row in resumed.history] == [1, 2]


def test_the_best_validation_is_known_after_a_resume(tmp_path):
    told, best = Told(tmp_path), []
    assert not told.log.at_best
    for psnr in (20.0, 19.0, 21.0):
        told.take([1, 2])
        told.line()
        told.log.validation(told.step, psnr)
        best.append(told.log.at_best)
    assert best == [True, False, True]
    told.log.publish()
    resumed = TrainingLog(str(tmp_path), tiny_spae.TRAINING, 3, 0)
    resumed.history.append({"step": 4, "validation_psnr": 20.5})
    assert not resumed.at_best


def test_the_share_of_time_that_waits_for_data_is_told(tmp_path, caplog):
    caplog.set_level("INFO")
    told = Told(tmp_path)
    for seconds in (0.3, 0.0):
        with told.log.waiting():
            time.sleep(seconds)
        told.take([1, 2])
        time.sleep(0.1)
        told.line()
    waits = [row["data_wait"] for row in told.log.history]
    assert 0.4 < waits[0] <= 0.75
    assert waits[1] < 0.1
    assert f"data wait {waits[0]:.0%}" in caplog.text
    assert told.log.history[0]["learning_rate"] == learning_rate(0, 12, tiny_spae.TRAINING.optimizer) > 0


def test_undecodable_samples_are_counted_by_line(tmp_path, caplog):
    told = Told(tmp_path)
    told.take([1, 2], undecodable=1)
    told.take([1, 2], undecodable=2)
    told.line()
    assert "3 samples could not be decoded since the last line" in caplog.text
    told.take([1, 2])
    told.line()
    assert [row["undecodable"] for row in told.log.history] == [3, 0]
