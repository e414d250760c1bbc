"""The GPU's kernels on CPU tensors, by Triton's interpreter, against fp64."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spae.codebook import cross_entropy as word_cross_entropy
from spae.codebook import screening, search
from spae.codebook.frozen import Codebook
from tests.spae.codebook.test_frozen import TABLES, exact, rows

pytest.importorskip("triton")
ROOT = Path(__file__).parents[3]


pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the device runs the kernels themselves")


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    """As on a device, with the interpreter (tests/conftest.py) in the compiler's place."""
    for user in (search, word_cross_entropy):
        monkeypatch.setattr(user, "has_kernels", lambda _: True)


@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("name", TABLES)
def test_nearest_by_the_kernel_is_the_fp64_search(name, spread):
    table = TABLES[name][:2_000]
    queries = rows(40, table.shape[1], seed=2) * spread
    queries[:16] = table[torch.arange(16) * 7 % len(table)]
    assert Codebook(table).nearest(queries).tolist() == exact(queries, table)


def test_the_kernel_alone_settles_rows_that_are_near_a_word():
    table = rows(1_000, 96)
    queries = table[:50] + 0.3 * rows(50, 96, seed=1)
    found = screening.screen(queries, table, table.square().sum(1) / 2)
    assert bool(found.settled.all())
    assert found.words[found.rows.argsort()].tolist() == list(range(50))


def test_what_the_kernel_leaves_out_is_out_of_reach():
    """Every word that it discards in a settled row is further than the nearest, by exact distances."""
    table, queries = rows(700, 40), rows(60, 40, seed=1)
    found = screening.screen(queries, table, table.square().sum(1) / 2)
    nearest = torch.tensor(exact(queries, table))
    pairs = set(zip(found.rows.tolist(), found.words.tolist(), strict=True))
    assert all((row, int(nearest[row])) in pairs for row in found.settled.nonzero()[:, 0].tolist())
    assert found.settled.sum() > 30


def test_rounding_bounds_hold_for_values_that_float16_cannot_hold():
    table = rows(300, 24) * torch.logspace(-8, 8, 300)[:, None]
    queries = table[::6] * 1.5
    assert Codebook(table).nearest(queries).tolist() == exact(queries, table)


@pytest.mark.parametrize("words", [1, 300, 5_000])
@pytest.mark.parametrize("temperature", [1.0, 0.09])
def test_cross_entropy_by_the_kernel_equals_the_plain_formula(words, temperature):
    table, targets, weights = rows(words, 16), torch.arange(12) * 5 % words, rows(12, seed=4)
    queries = rows(12, 16, seed=1).requires_grad_()
    losses = Codebook(table, temperature).cross_entropy(queries, targets)
    (losses * weights).sum().backward()
    plain = queries.detach().double().requires_grad_()
    logits = -(plain[:, None] - table.double()).square().sum(-1) / temperature
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    (expected * weights.double()).sum().backward()
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(queries.grad.double(), plain.grad, rtol=1e-5, atol=1e-5)


def test_blocks_of_rows_do_not_change_the_cross_entropy(monkeypatch):
    table, queries, targets = rows(300, 16), rows(40, 16, seed=1), torch.arange(40)
    whole = Codebook(table).cross_entropy(queries, targets)
    monkeypatch.setattr(word_cross_entropy, "_FUSED_SCORES", 900)  # three rows at a time
    torch.testing.assert_close(Codebook(table).cross_entropy(queries, targets), whole)


@pytest.mark.slow
def test_kernels_compile_for_devices_and_fit_their_shared_memory():
    command = [sys.executable, "-m", "tests.spae.codebook.compile_kernels"]
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    shared = {int(line.split()[0]): int(line.split()[1]) for line in done.stdout.splitlines()}
    limits = {80: 163 * 1024, 90: 227 * 1024, 89: 99 * 1024}
    assert shared.keys() == limits.keys()
    assert all(0 < shared[capability] <= limits[capability] for capability in limits)
