"""The pyramid's searches, of gathered positions in three products, against a search of every position of every layer.

python -m tests.benchmarks.bench_pyramid
"""

import argparse

import torch
from torch import Tensor

from spae.codebook.frozen import Codebook
from spae.config import IMAGE_GRIDS
from spae.pyramid import positions
from spae.quantizers import PyramidQuantizer
from tests.benchmarks.bench import Contestant, print_table, timed, write_json


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--words", type=int, default=65_536)
    parser.add_argument("--width", type=int, default=1_536)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default="runs/bench/pyramid.json")
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    codebook = Codebook(torch.nn.functional.normalize(torch.randn(options.words, options.width), dim=1))
    quantizer = PyramidQuantizer(codebook, IMAGE_GRIDS)
    latents = 0.9 * torch.nn.functional.normalize(torch.randn(options.images, options.width, 16, 16), dim=1)

    def everywhere() -> Tensor:
        """Every layer searches the whole grid, as a masked implementation does, and keeps what its mask tells."""
        z = latents.flatten(2).transpose(1, 2)
        total, count, kept = torch.zeros_like(z), torch.zeros(256, 1), []
        for grid in IMAGE_GRIDS:
            where = positions(grid, IMAGE_GRIDS[-1])
            ids = codebook.nearest(((count + 1) * z - total).flatten(0, 1)).view(len(z), -1)
            mask = torch.zeros(256, 1).index_fill(0, where, 1.0)
            total, count = total + mask * codebook.embed(ids), count + mask
            kept.append(ids[:, where])
        return torch.cat(kept, 1)

    def ours() -> Tensor:
        with torch.no_grad():
            return quantizer(latents).tokens.flatten()

    assert torch.equal(ours(), everywhere())
    runs = {"every position": Contestant(everywhere, options.images), "spae": Contestant(ours, options.images)}
    rows = timed(runs, options.rounds)
    title = f"the paper's pyramid over {options.words} words x {options.width}, {options.images} images, cpu"
    print_table(title, rows, "images")
    write_json(options.output, title, rows, **vars(options))


if __name__ == "__main__":
    main()
