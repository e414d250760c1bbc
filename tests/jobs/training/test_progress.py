import torch

from jobs.training.progress import Progress
from spae.pyramid import TokenPyramid
from spae.quantizers import Quantized
from spae.training.state import TrainState
from spae.training.step import StepResult
from tests import tiny_spae


def progress(tmp_path, samples=16):
    state = TrainState.create(tiny_spae.TRAINING, tiny_spae.model().train())
    return Progress(str(tmp_path), tiny_spae.TRAINING, state, 0, None, samples)


def step(told, words, *, finite=True, keys=("a", "b")):
    """One step of 8 samples whose every word is drawn from `words`."""
    layers = tuple(torch.tensor(words).repeat(99)[: 2 * h * w].view(2, h, w) for h, w in tiny_spae.CONFIG.grids)
    quantized = Quantized(torch.zeros(1), TokenPyramid(layers), (), ())
    terms = {f"latent_radius/{number}": torch.tensor(1.0) for number in range(1, 5)}
    terms |= {"pixel": torch.tensor(0.1), "commitment": torch.tensor(1.0), "repeats": torch.tensor(0.1)}
    terms |= {"skipped": torch.tensor(float(not finite)), "culprits": torch.tensor(float(not finite))}
    samples_finite = torch.tensor([finite, True])
    told.update(StepResult(terms, quantized, torch.tensor(finite), samples_finite), keys)
    told.state.step += 1
    told.state.seen += 8
    return terms


def test_samples_of_a_step_that_was_not_finite_are_named_at_the_next_line(tmp_path, caplog):
    caplog.set_level("INFO")
    told = progress(tmp_path)
    step(told, [1, 2, 3])
    terms = step(told, [1, 2, 3], finite=False, keys=("bad-key", "its-neighbour"))
    told.log(terms)
    assert "a loss was not finite, by samples bad-key\n" in caplog.text
    assert "1 of 2 steps were skipped" in caplog.text
    assert told.history[-1]["skipped"] == 1
    caplog.clear()
    told.log(step(told, [1, 2, 3]))
    assert "not finite" not in caplog.text


def test_the_health_of_an_epoch_is_told_once_it_ends(tmp_path, caplog):
    caplog.set_level("INFO")
    told = progress(tmp_path)
    assert told.log(step(told, [1, 2, 3])) == []
    assert "epoch" not in caplog.text
    assert told.log(step(told, [4, 5])) == []
    assert "epoch 1, layer 4: 5 words (12%)" in caplog.text
    assert told.history[-1]["epoch_words/4"] == 5
    assert "epoch_words/4" not in told.history[0]


def test_a_collapsed_layer_is_warned_of_and_returned(tmp_path, caplog):
    told = progress(tmp_path, samples=8)
    found = told.log(step(told, [7]))
    assert found[0] == "layer 1 has collapsed: one word takes 100% of its tokens"
    assert found[0] in caplog.text
