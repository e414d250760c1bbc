"""Steps with every term of equation 8, steps that are not finite, trainable tables."""

import dataclasses
import itertools

import pytest
import torch

from spae.ablations import ABLATIONS
from spae.config import DiscriminatorConfig
from spae.data.batch import Batch
from spae.data.loader import BatchPlan, batches
from spae.data.records import load_index
from spae.model import SPAE
from spae.training import step as training
from spae.training.objective import Objective
from spae.training.schedule import judged_frames
from spae.training.state import TrainState
from spae.training.step import train_step
from spae.training.telemetry import suspects
from tests import tiny_models, tiny_spae

SMALL = DiscriminatorConfig(base_channels=4, channel_multipliers=(2, 2), learning_rate=1e-3)
CONFIG = dataclasses.replace(
    tiny_spae.TRAINING,
    objective=dataclasses.replace(
        tiny_spae.TRAINING.objective, adversarial_weight=0.1, perceptual_weight=0.1, discriminator=SMALL
    ),
)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return load_index(tiny_models.save_digit_split(tmp_path_factory.mktemp("digits") / "train", "train", limit=40))


@pytest.fixture(scope="module")
def perceptual():
    """A frozen classifier of random weights."""
    torch.manual_seed(3)
    layers = [torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(10)]
    network = torch.nn.Sequential(*layers)
    network(torch.zeros(1, 3, 16, 16))
    return network.requires_grad_(False)


def new_state(config=CONFIG):
    torch.manual_seed(0)
    return TrainState.create(config, SPAE(config.model, tiny_spae.vocabulary()))


def some_batches(index, count, seen=0, config=CONFIG):
    plan = BatchPlan(index=index, data=config.data, input_size=config.model.input_size, draws=0, seed=0)
    return list(itertools.islice(batches(plan, seen), count))


def test_every_term_is_weighed_and_told(index, perceptual):
    state, objective = new_state(), Objective(CONFIG.objective, perceptual=perceptual)
    terms = train_step(state, objective, some_batches(index, 1)[0], CONFIG).terms
    value = {name: float(tensor) for name, tensor in terms.items()}
    weighted = value["pixel"] + 0.01 * value["commitment"] + 0.1 * value["perceptual"] + 0.1 * value["adversarial"]
    assert value["appearance"] == pytest.approx(weighted, rel=1e-5)
    assert {"discriminator", "gradient_penalty", "lecam", "latent_gradient/appearance", "repeats"} <= set(value)
    assert value["skipped"] == 0


def test_both_networks_learn(index, perceptual):
    state, objective = new_state(), Objective(CONFIG.objective, perceptual=perceptual)
    before = [one.detach().clone() for one in (*state.model.parameters(), *state.adversary.discriminator.parameters())]
    for batch in some_batches(index, 3):
        train_step(state, objective, batch, CONFIG)
    after = [*state.model.parameters(), *state.adversary.discriminator.parameters()]
    assert all(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_resumed_run_with_an_adversary_is_bit_equal(index, perceptual, tmp_path):
    objective = Objective(CONFIG.objective, perceptual=perceptual)
    plan = BatchPlan(index=index, data=CONFIG.data, input_size=(16, 16), draws=0, seed=0)
    whole, first = new_state(), new_state()
    for batch in some_batches(index, 6):
        train_step(whole, objective, batch, CONFIG)
    for batch in some_batches(index, 3):
        train_step(first, objective, batch, CONFIG)
    torch.save(first.state_dict(plan.order.position(first.seen)), tmp_path / "state.pt")
    torch.manual_seed(9)
    second = TrainState.create(CONFIG, SPAE(CONFIG.model, tiny_spae.vocabulary()))
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), plan.order)
    for batch in some_batches(index, 3, second.seen):
        train_step(second, objective, batch, CONFIG)
    for state in (whole, second):
        state.named = {**state.average.state_dict(), **state.adversary.discriminator.state_dict()}
    assert all(torch.equal(tensor, second.named[name]) for name, tensor in whole.named.items())


def test_a_step_that_is_not_finite_changes_no_weight_and_is_told(index, perceptual):
    state, objective = new_state(), Objective(CONFIG.objective, perceptual=perceptual)
    good, bad = some_batches(index, 2)
    train_step(state, objective, good, CONFIG)
    names = dict(state.model.state_dict()), dict(state.adversary.discriminator.state_dict())
    before = [{name: tensor.clone() for name, tensor in one.items()} for one in names]
    pixels = bad.pixels.float() / 255
    pixels[2, 0, 3, 3] = torch.nan
    result = train_step(state, objective, dataclasses.replace(bad, pixels=pixels), CONFIG)
    assert (float(result.terms["skipped"]), float(result.terms["skipped_in_a_row"])) == (1, 1)
    assert not bool(result.loss_finite)
    blamed = suspects(bad.keys, result.samples_finite, float(result.terms["culprits"]))
    assert blamed == (bad.keys[2],), "statistics mix the batch, and yet its one bad picture is known"
    again = train_step(state, objective, dataclasses.replace(bad, pixels=pixels), CONFIG)
    assert float(again.terms["skipped_in_a_row"]) == 2
    for kept, network in zip(before, (state.model, state.adversary.discriminator), strict=True):
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, kept[name]), name
    after = train_step(state, objective, good, CONFIG)
    assert (float(after.terms["skipped"]), float(after.terms["skipped_in_a_row"])) == (0, 0)
    assert bool(after.loss_finite)


def test_without_a_culprit_the_whole_batch_is_suspect():
    finite = torch.tensor([True, True])
    assert suspects(("a", "b"), finite, 0.0) == ("a", "b")
    assert suspects(("a", "b"), finite, 0.5) == (), "another rank's sample is to blame"


@pytest.mark.parametrize("judges", [(), ("cpu",)])
def test_bfloat16_leaves_latents_tables_and_losses_in_float32(judges, index, perceptual, monkeypatch):
    monkeypatch.setattr(training, "_MIXED_JUDGES", judges)
    config = dataclasses.replace(CONFIG, precision="bfloat16")
    state, objective = new_state(config), Objective(config.objective, perceptual=perceptual)
    batch = some_batches(index, 1)[0]
    told = train_step(state, objective, batch, config)
    exact = train_step(new_state(), Objective(CONFIG.objective, perceptual=perceptual), batch, CONFIG)
    assert {tensor.dtype for tensor in told.terms.values()} == {torch.float32}
    assert {one.dtype for one in told.quantized.layer_inputs} == {torch.float32}
    assert told.quantized.latents.dtype == torch.float32
    assert {one.dtype for one in state.model.parameters()} == {torch.float32}
    for name in ("pixel", "adversarial", "discriminator"):
        assert float(told.terms[name]) == pytest.approx(float(exact.terms[name]), rel=0.05), name


def test_networks_that_are_weighed_must_be_given():
    with pytest.raises(ValueError, match="perceptual_weight=0"):
        Objective(CONFIG.objective)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("row", ["vq", "projected", "lqae", "rq-2", "saq-2", "spae-8"])
def test_every_kind_of_table_and_quantizer_learns(row, precision, index, monkeypatch):
    monkeypatch.setattr("spae.ablations.BASELINE_WORDS", 30)
    monkeypatch.setattr("spae.ablations.BASELINE_WIDTH", 6)
    config = ABLATIONS[row](dataclasses.replace(tiny_spae.TRAINING, steps=40, precision=precision))
    state, objective = new_state(config), Objective(config.objective)
    terms = [train_step(state, objective, batch, config).terms for batch in some_batches(index, 40, config=config)]
    assert sum(float(one["skipped"]) for one in terms) == 0
    losses = [float(one["pixel"]) for one in terms]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize("row", ["vq", "projected"])
def test_a_trained_table_is_exported_like_any_other(row, index, monkeypatch, tmp_path):
    monkeypatch.setattr("spae.ablations.BASELINE_WORDS", 30)
    monkeypatch.setattr("spae.ablations.BASELINE_WIDTH", 6)
    config = ABLATIONS[row](tiny_spae.TRAINING)
    state, objective = new_state(config), Objective(config.objective)
    table = state.model.codebook.embeddings.clone()
    for batch in some_batches(index, 4, config=config):
        train_step(state, objective, batch, config)
    assert not torch.equal(state.model.codebook.embeddings, table)
    trained = state.model.eval()
    trained.save_pretrained(str(tmp_path / "model"))
    loaded = SPAE.from_pretrained(str(tmp_path / "model"))
    assert loaded.config.table == "frozen"
    assert loaded.vocabulary.word_list == trained.vocabulary.word_list
    pixels = torch.rand(3, 3, 16, 16)
    tokens = trained.encode(pixels)
    assert torch.equal(tokens.flatten(), loaded.encode(pixels).flatten())
    torch.testing.assert_close(loaded.decode(tokens), trained.decode(tokens))


def test_the_average_has_a_table_of_its_own_where_it_is_trained():
    state = new_state(ABLATIONS["projected"](tiny_spae.TRAINING))
    assert state.average.codebook is not state.model.codebook
    assert state.average.quantizer.codebook is state.average.codebook


def test_the_perceptual_network_sees_some_frames_of_clips_and_the_discriminator_whole_clips(perceptual):
    clip = dataclasses.replace(CONFIG.model, input_size=(8, 16, 16), grids=((1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 4, 4)))
    config = dataclasses.replace(
        CONFIG, model=clip, objective=dataclasses.replace(CONFIG.objective, perceptual_frames=3)
    )
    seen = []

    def watching(pixels):
        seen.append(pixels.detach().clone())
        return perceptual(pixels)

    state, objective = new_state(config), Objective(config.objective, perceptual=watching)
    pixels = torch.randint(0, 256, (8, 3, 8, 16, 16), dtype=torch.uint8)
    batch = Batch(pixels, torch.rand(8, 0), tuple("abcdefgh"), tuple(range(8)))
    terms = train_step(state, objective, batch, config).terms
    assert float(terms["skipped"]) == 0
    assert all(float(terms[name]) > 0 for name in ("perceptual", "adversarial", "discriminator", "gradient_penalty"))
    frames = judged_frames(0, config)
    assert [tuple(one.shape) for one in seen] == [(24, 3, 16, 16)] * 2
    assert torch.equal(seen[1].view(8, 3, 3, 16, 16).movedim(1, 2), pixels[:, :, frames].float() / 255)
