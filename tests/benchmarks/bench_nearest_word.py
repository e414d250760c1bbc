"""Exact nearest word against the bare product of the fastest library, and against what others offer.

    python -m tests.benchmarks.bench_nearest_word

Peers need the extra `bench`: vector-quantize-pytorch and faiss. Each tells how many ids are those of an fp64 search.
"""

import argparse
import sys
from collections.abc import Callable

import faiss
import numpy as np
import torch
from torch import Tensor
from vector_quantize_pytorch import VectorQuantize

from spae.codebook.frozen import Codebook
from tests.benchmarks import plain
from tests.benchmarks.bench import Contestant, print_table, timed, write_json


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--words", type=int, default=65_536)
    parser.add_argument("--width", type=int, default=1_536)
    parser.add_argument("--queries", type=int, default=597, help="those of an image in the paper's pyramid")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default="runs/bench/nearest_word.json")
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    table = torch.nn.functional.normalize(torch.randn(options.words, options.width), dim=1)
    near = table[torch.randint(options.words, (options.queries,))]
    queries = 0.7 * near + 0.7 * torch.nn.functional.normalize(torch.randn_like(near), dim=1)
    searches = {**bare_products(table, queries), **contestants(table, queries)}
    exact = plain.nearest(queries, table)
    rows = timed({name: Contestant(run, options.queries) for name, run in searches.items()}, options.rounds)
    title = f"nearest of {options.words} words x {options.width} for {options.queries} rows, cpu"
    print_table(title, rows, "rows")
    agreement = {name: float((run() == exact).float().mean()) for name, run in contestants(table, queries).items()}
    fastest = min(row.seconds for row in rows[:2])
    ratios = {row.name: row.seconds / fastest for row in rows}
    for name, share in agreement.items():
        sys.stdout.write(f"{name:28} {ratios[name]:.2f} of the fastest product, {share:.2%} of fp64's ids\n")
    write_json(options.output, title, rows, **vars(options), agreement=agreement, over_fastest_product=ratios)


def bare_products(table: Tensor, queries: Tensor) -> dict[str, Callable[[], object]]:
    """Scores of all words without bias or search, by the two libraries at hand."""
    out = torch.empty(len(queries), len(table))
    return {
        "product, NumPy": lambda: np.matmul(queries.numpy(), table.numpy().T, out=out.numpy()),
        "product, torch": lambda: torch.mm(queries, table.T, out=out),
    }


def contestants(table: Tensor, queries: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Ids (N,) by each search."""
    codebook = Codebook(table)
    flat = faiss.IndexFlatL2(table.shape[1])
    flat.add(table.numpy())
    quantizer = VectorQuantize(dim=table.shape[1], codebook_size=len(table)).eval()
    quantizer.codebook = table

    @torch.no_grad()
    def vector_quantize() -> Tensor:
        return quantizer(queries[None])[1][0]

    return {
        "spae": lambda: codebook.nearest(queries),
        "vector-quantize-pytorch": vector_quantize,
        "torch.cdist": lambda: torch.cdist(queries, table).argmin(1),
        "faiss, flat": lambda: torch.from_numpy(flat.search(queries.numpy(), 1)[1][:, 0]),
    }


if __name__ == "__main__":
    main()
