import dataclasses
import functools
import itertools

import pytest
import torch

from spae.clip import image_features, load_clip
from spae.codebook.frozen import Codebook
from spae.data.batch import Batch
from spae.data.loader import BatchPlan, batches
from spae.data.order import DataPosition, StreamOrder
from spae.data.records import load_index
from spae.model import SPAE, unit_pixels
from spae.training.losses import commitment_loss
from spae.training.objective import Guidance, Objective
from spae.training.state import TrainState
from spae.training.step import train_step
from tests import tiny_models, tiny_spae
from tests.ranks import on_ranks

CONFIG = tiny_spae.TRAINING


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return load_index(tiny_models.save_digit_split(tmp_path_factory.mktemp("digits") / "train", "train", limit=30))


def plan(index, rank=0, ranks=1, config=CONFIG, draws=0):
    return BatchPlan(
        index=index, data=config.data, input_size=config.model.input_size, draws=draws, seed=0, rank=rank, ranks=ranks
    )


def new_state(config=CONFIG):
    torch.manual_seed(config.seed)
    return TrainState.create(config, SPAE(config.model, tiny_spae.vocabulary()))


def run(state, objective, plan, steps, config=CONFIG):
    some = itertools.islice(batches(plan, state.seen), steps)
    return [train_step(state, objective, batch, config).terms for batch in some]


def test_the_table_is_shared_and_never_trained(index):
    state = new_state()
    before = state.model.codebook.embeddings.clone()
    run(state, Objective(CONFIG.objective, None), plan(index), 3)
    assert state.average.codebook is state.model.codebook
    assert torch.equal(state.model.codebook.embeddings, before)
    trained = {id(p) for group in state.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in state.model.parameters()}
    assert not any("codebook" in name for name, _ in state.model.named_parameters())


def test_the_appearance_loss_is_pixels_and_relative_commitment(index):
    state, batch = new_state(), next(batches(plan(index)))
    objective = Objective(CONFIG.objective, None)
    model = state.model.train()
    forward = model(batch.pixels)
    terms = objective.appearance(model, forward, unit_pixels(batch.pixels))
    table = model.codebook.embeddings.double()
    radius = (table - table.mean(0)).square().sum(1).mean()
    where = [model.quantizer.layer_positions(layer) for layer in range(4)]
    estimates = [estimate.double() for estimate in forward.quantized.layer_estimates]
    relative = commitment_loss(forward.latents.detach().double(), estimates, where) / radius
    pixel = (forward.reconstruction.detach().double() - batch.pixels.double() / 255).square().mean()
    assert float(terms["appearance"].detach()) == pytest.approx(float(pixel + 0.01 * relative), rel=1e-5)
    element = dataclasses.replace(CONFIG.objective, commitment_reduction="element")
    by_element = Objective(element, None).appearance(model, forward, unit_pixels(batch.pixels))["commitment"]
    assert float(by_element.detach()) == pytest.approx(float(relative * radius / 12), rel=1e-5)


def test_training_lowers_the_loss(index):
    config = dataclasses.replace(CONFIG, steps=60)
    terms = run(new_state(config), Objective(config.objective, None), plan(index), 60, config)
    first, last = (sum(float(t["pixel"]) for t in part) for part in (terms[:5], terms[-5:]))
    assert last < 0.6 * first


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(index, tmp_path):
    objective = Objective(CONFIG.objective, None)
    whole = new_state()
    run(whole, objective, plan(index), 12)
    first = new_state()
    run(first, objective, plan(index), 5)
    order = plan(index).order
    torch.save(first.state_dict(order.position(first.seen)), tmp_path / "state.pt")
    second = new_state()
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), order)
    assert (second.step, second.seen) == (5, 40)
    run(second, objective, plan(index), 7)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    for name, tensor in whole.average.state_dict().items():
        assert torch.equal(tensor, second.average.state_dict()[name]), name


def test_a_state_holds_plain_values_only():
    state = new_state().state_dict(DataPosition(0, (0, 0)))
    assert set(state) == {"model", "average", "optimizer", "weights", "adversary", "step", "position"}


@pytest.fixture(scope="module")
def guidance(tmp_path_factory):
    clip = load_clip(tiny_models.causal_clip(tmp_path_factory.mktemp("clip")))
    features = torch.nn.functional.normalize(torch.randn(40, 24, generator=torch.Generator().manual_seed(0)), dim=1)
    return Guidance(functools.partial(image_features, clip), features)


def guided(weight=1.0, **changes):
    objective = dataclasses.replace(CONFIG.objective, semantic_weight=weight, prefix_probability=0.0, **changes)
    optimizer = dataclasses.replace(CONFIG.optimizer, learning_rate=3e-3, warmup_steps=20)
    data = dataclasses.replace(CONFIG.data, shift=0)
    return dataclasses.replace(CONFIG, objective=objective, optimizer=optimizer, data=data, steps=40)


def test_guidance_draws_the_words_to_the_pools(tmp_path, guidance):
    few = load_index(tiny_models.save_digit_split(tmp_path / "train", "train", limit=8))
    ends = {}
    for weight in (1e-6, 20.0):
        config = guided(weight)
        found = plan(few, draws=5, config=config)
        terms = run(new_state(config), Objective(config.objective, guidance), found, 40, config)
        ends[weight] = [sum(float(t[name]) for t in terms[-10:]) / 10 for name in ("semantic", "pool_hit/2")]
        assert all(1 <= float(t["pool_size/1"]) <= float(t["pool_size/2"]) for t in terms)
    assert ends[20.0][0] < 0.9 * ends[1e-6][0]
    assert ends[20.0][1] > 1.5 * ends[1e-6][1]


def test_the_dynamic_weight_is_capped_by_its_running_median(index, guidance):
    config = guided(dynamic_weight_cap=1.5)
    state = new_state(config)
    state.dynamic_weights[50:100] = 1e-6
    terms = run(state, Objective(config.objective, guidance), plan(index, draws=5), 1, config)
    assert float(terms[0]["dynamic_weight"]) == pytest.approx(1.5e-6)
    assert float(state.dynamic_weights[0]) == pytest.approx(1.5e-6)


def test_a_fixed_weight_is_one(index, guidance):
    config = guided(dynamic_weight=False)
    terms = run(new_state(config), Objective(config.objective, guidance), plan(index, draws=5), 1, config)
    assert float(terms[0]["dynamic_weight"]) == 1


@pytest.mark.parametrize("words", [20, 60])
def test_guidance_for_other_words_than_the_codebooks_is_refused(words, index, guidance):
    config = guided()
    other = dataclasses.replace(guidance, semantics=guidance.semantics.repeat(2, 1)[:words])
    with pytest.raises(ValueError, match=f"features of {words} words, and the model's codebook holds 40"):
        run(new_state(config), Objective(config.objective, other), plan(index, draws=5), 1, config)


def test_the_first_words_alone_can_be_guided(index, guidance):
    config = dataclasses.replace(guided(), model=dataclasses.replace(CONFIG.model, table_size=20))
    first = dataclasses.replace(guidance, semantics=guidance.semantics[:20])
    terms = run(new_state(config), Objective(config.objective, first), plan(index, draws=5), 2, config)
    assert all(float(one["skipped"]) == 0 for one in terms)


def test_guidance_is_needed_where_it_is_weighed():
    with pytest.raises(ValueError, match="semantic_weight=0"):
        Objective(guided().objective, None)
    assert Objective(guided(0.0).objective, None).guided_layers == 0


def _train_on_rank(rank, split):
    state = new_state()
    terms = run(state, Objective(CONFIG.objective, None), plan(split, rank, 2), 6)
    weights = {name: tensor.numpy() for name, tensor in state.average.state_dict().items()}
    return weights, [float(one["appearance"]) for one in terms]


@pytest.mark.slow
def test_two_ranks_train_the_model_of_one(index):
    """Equal up to the rounding of the reductions: statistics, losses and gradients are those of the global batch."""
    weights, losses = on_ranks(_train_on_rank, index)[0]
    state = new_state()
    terms = run(state, Objective(CONFIG.objective, None), plan(index), 6)
    assert losses == pytest.approx([float(one["appearance"]) for one in terms], rel=1e-3)
    named = state.average.state_dict()
    del named["encoder.head.bias"]  # the normalisation removes it: its gradient is rounding, which Adam blows up
    for name, tensor in named.items():
        torch.testing.assert_close(torch.from_numpy(weights[name]), tensor, rtol=1e-2, atol=1e-3, msg=name)


def test_batches_carry_numbers_that_belong_to_the_order(index):
    batch: Batch = next(batches(plan(index), seen=40))
    assert batch.numbers == tuple(range(40, 48))
    assert isinstance(plan(index).order, StreamOrder)
    assert isinstance(new_state().model.codebook, Codebook)


def test_the_radius_of_latents_is_told_per_layer(index):
    state, batch = new_state(), next(batches(plan(index)))
    model = state.model.train()
    z = model.latents(batch.pixels).detach().double()
    terms = train_step(state, Objective(CONFIG.objective), batch, CONFIG).terms
    table = model.codebook.embeddings.double()
    radius = (table - table.mean(0)).square().sum(1).mean().sqrt()
    for layer in range(4):
        at = z.flatten(2)[:, :, model.quantizer.layer_positions(layer)] - table.mean(0)[:, None]
        expected = at.square().sum(1).mean().sqrt() / radius
        assert float(terms[f"latent_radius/{layer + 1}"]) == pytest.approx(float(expected), rel=1e-4)
