"""Which words are used: counts per layer, from which usage, perplexity and the top word's share follow."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spae.pyramid import TokenPyramid


@dataclass(frozen=True)
class LayerUsage:
    """How one layer uses the vocabulary."""

    words: int
    """Distinct words seen."""
    share: float
    """Distinct words over the vocabulary's size."""
    entropy: float
    """Entropy of the word frequencies in nats."""
    perplexity: float
    """exp(entropy): the number of equally frequent words that would be as varied."""
    top_word: int
    """Id of the most used word."""
    top_share: float
    """Its share of the layer's tokens."""


class WordUsage:
    """Counts words per layer over any number of batches; two of them merge by addition.

    Memory is layers x words integers, whatever is counted. Counting over an epoch matters: the perplexity of one batch
    says little about a layer with one token an image.
    """

    def __init__(self, words: int, layers: int, device: torch.device | str = "cpu") -> None:
        self.counts = torch.zeros(layers, words, dtype=torch.int64, device=device)

    def update(self, pyramid: TokenPyramid) -> None:
        """Count the tokens of a batch, on the device of the counts and without waiting for it."""
        layers, words = self.counts.shape
        if pyramid.depth != layers:
            raise ValueError(f"a pyramid of {pyramid.depth} layers cannot be counted with one of {layers}")
        offsets = [layer.flatten() + number * words for number, layer in enumerate(pyramid.layers)]
        flat = torch.cat(offsets).to(self.counts.device)
        self.counts.view(-1).index_add_(0, flat, torch.ones_like(flat))

    def merge(self, other: "WordUsage") -> None:
        """Add the counts of another."""
        self.counts += other.counts

    def compute(self) -> list[LayerUsage]:
        """One summary a layer; ValueError where nothing was counted."""
        if not bool(self.counts.sum(1).all()):
            raise ValueError("no words were counted; call update first")
        return [_summary(layer) for layer in self.counts]


def _summary(counts: Tensor) -> LayerUsage:
    shares = counts.double() / counts.sum()
    entropy = float(torch.special.entr(shares).sum())
    used = int((counts > 0).sum())
    top = int(counts.argmax())
    return LayerUsage(
        words=used,
        share=used / len(counts),
        entropy=entropy,
        perplexity=float(torch.tensor(entropy, dtype=torch.float64).exp()),
        top_word=top,
        top_share=float(shares[top]),
    )
