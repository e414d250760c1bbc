import itertools

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from jobs.tuning.adapter import AdapterTraining, add_adapter, mean_loss, sequence_loss, train_adapter
from spae.data.token_sequences import Document, pack
from spae.incontext.weights import open_weights
from tests import tiny_causal

TRAINING = AdapterTraining(learning_rate=1e-2, seconds=60, steps=20)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tiny_causal.save_causal(tmp_path_factory.mktemp("llm"), LlamaConfig(**tiny_causal.SIZES))


@pytest.fixture
def model(place):
    return open_weights(place, "cpu", None)


def documents(count=6):
    """Rising numbers from a drawn one on, the second half learned."""
    draws = np.random.default_rng(0)
    for length in draws.integers(4, 12, count):
        yield Document(draws.integers(0, 300) + np.arange(length), np.arange(length) >= length // 2)


def test_documents_in_one_sequence_do_not_see_each_other(model):
    (together,) = pack(documents(), 100)
    alone = [sequence_loss(model, sequence) for one in documents() for sequence in pack([one], 100)]
    assert len(alone) == together.documents == 6
    torch.testing.assert_close(sequence_loss(model, together), torch.stack(alone).sum(), rtol=1e-5, atol=1e-5)


def test_the_loss_is_the_models_own_on_the_learned_tokens(model):
    (sequence,) = pack(documents(1), 100)
    ids = torch.from_numpy(sequence.ids)[None]
    labels = torch.where(torch.from_numpy(sequence.learned), ids, -100)
    own = model(ids, labels=labels).loss * sequence.learned.sum()
    torch.testing.assert_close(sequence_loss(model, sequence), own, rtol=1e-5, atol=1e-5)


def test_a_new_adapter_changes_nothing_and_a_trained_one_lowers_the_loss(model):
    sequences = list(pack(documents(40), 100))
    before, weights = mean_loss(model, sequences), [value.clone() for value in model.state_dict().values()]
    frozen = list(model.state_dict().values())
    adapted = add_adapter(model, "tiny", rank=4, seed=0)
    assert mean_loss(adapted, sequences) == before
    steps = list(train_adapter(adapted, itertools.cycle(sequences), TRAINING))
    assert [step.number for step in steps] == list(range(1, 21))
    assert mean_loss(adapted, sequences) < before - 0.1
    assert all(torch.equal(one, other) for one, other in zip(frozen, weights, strict=True))


def test_the_same_steps_give_the_same_adapter(place):
    def trained():
        adapted = add_adapter(open_weights(place, "cpu", None), "tiny", rank=4, seed=0)
        steps = list(train_adapter(adapted, itertools.cycle(pack(documents(40), 100)), TRAINING))
        return [step.loss for step in steps]

    assert trained() == trained()


def test_the_first_limit_ends_the_training(model):
    adapted = add_adapter(model, "tiny", rank=4, seed=0)
    training = AdapterTraining(learning_rate=1e-2, seconds=1e-9, steps=20)
    assert len(list(train_adapter(adapted, itertools.cycle(pack(documents(), 100)), training))) == 1


def test_nothing_to_learn_is_an_error(model):
    with pytest.raises(ValueError, match="nothing can be learned"):
        mean_loss(model, pack([Document(np.arange(4), np.zeros(4, bool))], 100))
