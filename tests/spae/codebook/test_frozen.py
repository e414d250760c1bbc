import numpy as np
import pytest
import torch

from spae.codebook import search
from spae.codebook.frozen import Codebook, default_temperature
from tests import reference


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TABLES = {
    "random": rows(500, 24),
    "many words": rows(20_000, 8),
    "copies": rows(30, 24).repeat(10, 1),
    "clusters tighter than fp32": rows(6, 24).repeat(60, 1) + 1e-7 * rows(360, 24, seed=1),
    "norms from tiny to huge": rows(300, 24) * torch.logspace(-3, 3, 300)[:, None],
    "odd sizes": rows(257, 7),
    "one word": rows(1, 5),
}


def exact(queries, table):
    return [reference.nearest(query, table.double().numpy()) for query in queries.double().numpy()]


@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("name", TABLES)
def test_nearest_is_the_fp64_search_with_ties_to_the_lowest_id(name, spread):
    table = TABLES[name]
    queries = rows(48, table.shape[1], seed=2) * spread
    queries[:16] = table[torch.arange(16) * 7 % len(table)]  # exactly on a word
    assert Codebook(table).nearest(queries).tolist() == exact(queries, table)


@pytest.mark.parametrize("scores", [1, 4_000])
@pytest.mark.parametrize("name", TABLES)
def test_chunks_do_not_change_the_words(name, scores, monkeypatch):
    monkeypatch.setattr(search, "_CHUNK_SCORES", scores)
    monkeypatch.setattr(search, "_GROUP", 8)
    monkeypatch.setattr(search, "_BLOCK_QUERIES", 20)
    queries = rows(48, TABLES[name].shape[1], seed=2)
    assert Codebook(TABLES[name]).nearest(queries).tolist() == exact(queries, TABLES[name])


@pytest.mark.parametrize("name", TABLES)
def test_screening_by_tensor_cores_is_exact_too(name, monkeypatch):
    """With factors cut to ten bits, as the worst of them may do it."""

    def cut(x):
        return (x.view(torch.int32) & ~0x1FFF).view(torch.float32) if x.dtype == torch.float32 else x

    product = search.biased_product
    monkeypatch.setattr(search, "_factor_rounding", lambda q: 2**-10 if q.dtype == torch.float32 else 0.0)
    monkeypatch.setattr(search, "biased_product", lambda e, q, bias, out: product(cut(e), cut(q), bias, out))
    table = TABLES[name]
    queries = rows(48, table.shape[1], seed=2)
    assert Codebook(table).nearest(queries).tolist() == exact(queries, table)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", TABLES)
def test_a_device_finds_the_same_words(name):
    table = TABLES[name]
    queries = rows(3_000, table.shape[1], seed=2)
    assert torch.equal(Codebook(table).cuda().nearest(queries.cuda()).cpu(), Codebook(table).nearest(queries))


def test_between_copies_the_lowest_id_wins():
    table = TABLES["copies"]
    assert Codebook(table).nearest(table[270:300]).tolist() == list(range(30))


def test_nearest_of_no_rows_is_empty():
    assert Codebook(rows(5, 3)).nearest(torch.zeros(0, 3)).shape == (0,)


def test_rows_found_together_are_those_found_alone():
    codebook, queries = Codebook(TABLES["random"]), rows(700, 24, seed=3)
    alone = torch.cat([codebook.nearest(query[None]) for query in queries])
    assert torch.equal(codebook.nearest(queries), alone)


@pytest.mark.parametrize("temperature", [1.0, 0.09, 7.0])
def test_cross_entropy_equals_the_plain_formula(temperature):
    table, queries, targets = rows(300, 16), rows(40, 16, seed=1), torch.arange(40) * 5
    losses = Codebook(table, temperature).cross_entropy(queries, targets)
    expected = [
        reference.word_cross_entropy(q, table.double().numpy(), int(t), temperature)
        for q, t in zip(queries.double().numpy(), targets, strict=True)
    ]
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_gradient_of_cross_entropy_equals_autograd_in_fp64():
    table, targets, weights = rows(300, 16), torch.arange(40) * 5, rows(40, seed=4)
    queries = rows(40, 16, seed=1).requires_grad_()
    (Codebook(table, 0.3).cross_entropy(queries, targets) * weights).sum().backward()
    exact_queries = queries.detach().double().requires_grad_()
    logits = -(exact_queries[:, None] - table.double()).square().sum(-1) / 0.3
    (torch.nn.functional.cross_entropy(logits, targets, reduction="none") * weights.double()).sum().backward()
    torch.testing.assert_close(queries.grad.double(), exact_queries.grad, rtol=1e-5, atol=1e-5)


def test_chunks_do_not_change_the_cross_entropy(monkeypatch):
    table, queries, targets = rows(300, 16), rows(40, 16, seed=1), torch.arange(40)
    whole = Codebook(table).cross_entropy(queries, targets)
    monkeypatch.setattr("spae.codebook.cross_entropy._BLOCK_SCORES", 900)  # three rows at a time
    torch.testing.assert_close(Codebook(table).cross_entropy(queries, targets), whole)


def test_the_table_is_frozen():
    codebook = Codebook(rows(10, 4))
    assert not list(codebook.parameters())
    assert not codebook.state_dict()
    queries = rows(3, 4).requires_grad_()
    codebook.cross_entropy(queries, torch.tensor([0, 1, 2])).sum().backward()
    assert codebook.embeddings.grad is None
    assert queries.grad is not None


def test_embed_looks_rows_up():
    table = rows(10, 4)
    assert torch.equal(Codebook(table).embed(torch.tensor([[3, 1]])), table[[3, 1]][None])


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [(torch.zeros(3), "must be"), (torch.zeros(3, 2).long(), "must be"), (torch.full((3, 2), torch.nan), "NaN")],
)
def test_tables_that_are_none_are_refused(embeddings, message):
    with pytest.raises(ValueError, match=message):
        Codebook(embeddings)


def test_queries_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(N, 4\)"):
        Codebook(rows(10, 4)).nearest(torch.zeros(2, 3))


def test_default_temperature_is_sure_on_a_word_and_flat_at_the_mean():
    table = torch.nn.functional.normalize(rows(4096, 256), dim=1)
    codebook = Codebook(table - table.mean(0), default_temperature(4096))
    on_words = codebook.cross_entropy(codebook.embeddings[:32], torch.arange(32))
    assert float(on_words.max()) < 0.1
    at_mean = codebook.cross_entropy(torch.zeros(1, 256), torch.tensor([0]))
    assert float(at_mean) == pytest.approx(np.log(4096), rel=0.1)


def test_mean_and_radius_are_those_of_the_table():
    table = rows(300, 16) + 3
    codebook, exact_table = Codebook(table), table.double()
    expected = (exact_table - exact_table.mean(0)).square().sum(1).mean()
    torch.testing.assert_close(codebook.mean.double(), exact_table.mean(0), rtol=1e-6, atol=1e-6)
    assert float(codebook.radius_squared) == pytest.approx(float(expected), rel=1e-5)


def test_queries_that_are_not_finite_cost_no_search(monkeypatch):
    """340 rows of NaN took 15 s of 8,192 x 256: one fp64 scan each."""
    codebook = Codebook(torch.randn(300, 8))
    queries = torch.randn(40, 8)
    expected = codebook.nearest(queries)
    queries[3, 1], queries[17, 0], queries[30] = torch.nan, torch.inf, -torch.inf
    monkeypatch.setattr(search, "_search_exhaustively", None)  # nothing may reach it
    found = codebook.nearest(queries)
    sound = queries.isfinite().all(1)
    assert torch.equal(found[sound], expected[sound])
    assert found[~sound].tolist() == [0, 0, 0]


def test_float64_queries_are_searched_as_they_are():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 6, generator=generator)
    first, second = rows[:2].double()
    codebook, middle = Codebook(rows * 1.0), (first + second) / 2
    normal = (second - first) / (second - first).norm()
    queries = torch.stack([first + (first + second) * 0, middle - 1e-9 * normal, middle + 1e-9 * normal])
    distances = (queries[:, None] - rows.double()).square().sum(2)
    assert torch.equal(codebook.nearest(queries), distances.argmin(1))


def test_queries_must_be_floats():
    with pytest.raises(ValueError, match=r"must be float \(N, 8\)"):
        Codebook(torch.randn(30, 8)).nearest(torch.zeros(2, 8, dtype=torch.int64))
