"""Word cross-entropy with its gradient, against the two products that it needs and against the plain formula.

    python -m tests.benchmarks.bench_word_cross_entropy

Its memory is measured once more at the rows of a whole batch of the paper (256 images, five guided layers) and a narrow
table: it depends on neither width nor rows, and the products of the full width would take minutes.
"""

import argparse
import sys

import numpy as np
import torch
from torch import Tensor

from spae.codebook.frozen import Codebook, default_temperature
from tests.benchmarks import plain
from tests.benchmarks.bench import Contestant, peak_memory, print_table, timed, write_json


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--words", type=int, default=65_536)
    parser.add_argument("--width", type=int, default=1_536)
    parser.add_argument("--queries", type=int, default=341, help="those of an image in the five guided layers")
    parser.add_argument("--batch-queries", type=int, default=87_296, help="for the memory alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default="runs/bench/word_cross_entropy.json")
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    table = torch.nn.functional.normalize(torch.randn(options.words, options.width), dim=1)
    queries = torch.nn.functional.normalize(torch.randn(options.queries, options.width), dim=1).requires_grad_()
    targets = torch.randint(options.words, (options.queries,))
    codebook = Codebook(table, default_temperature(options.words))
    scores, gradient = torch.empty(options.words, options.queries), torch.empty_like(queries)

    def products() -> None:
        np.matmul(table.numpy(), queries.detach().numpy().T, out=scores.numpy())
        np.matmul(scores.numpy().T, table.numpy(), out=gradient.detach().numpy())

    def products_by_torch() -> None:
        torch.mm(table, queries.detach().T, out=scores)
        torch.mm(scores.T, table, out=gradient.detach())

    def ours() -> Tensor:
        (found,) = torch.autograd.grad(codebook.cross_entropy(queries, targets).sum(), queries)
        return found

    def by_formula() -> Tensor:
        loss = plain.word_cross_entropy(queries, targets, table, codebook.temperature).sum()
        return torch.autograd.grad(loss, queries)[0]

    runs = {
        "two products, NumPy": products,
        "two products, torch": products_by_torch,
        "spae": ours,
        "plain": by_formula,
    }
    rows = timed({name: Contestant(run, options.queries) for name, run in runs.items()}, options.rounds)
    title = f"cross-entropy and gradient over {options.words} words x {options.width} for {options.queries} rows, cpu"
    print_table(title, rows, "rows")
    ratio = rows[2].seconds / min(row.seconds for row in rows[:2])
    memory = batch_memory(options.words, options.batch_queries)
    sys.stdout.write(f"spae takes {ratio:.2f} of the faster products' time\n")
    sys.stdout.write(f"{options.batch_queries} rows: {memory:.0f} MB beyond the inputs and the gradient\n")
    write_json(options.output, title, rows, **vars(options), over_products=ratio, batch_memory_mb=memory)


def batch_memory(words: int, count: int, width: int = 16) -> float:
    """Peak in MB of loss and gradient for many rows, without the gradient itself and its product with the upstream."""
    codebook = Codebook(torch.randn(words, width))
    queries, targets = torch.randn(count, width).requires_grad_(), torch.randint(words, (count,))

    def run() -> None:
        torch.autograd.grad(codebook.cross_entropy(queries, targets).sum(), queries)

    return peak_memory(run) - 2 * queries.numel() * 4 / 1e6


if __name__ == "__main__":
    main()
