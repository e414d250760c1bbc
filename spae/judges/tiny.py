"""A random network that measures in no time and without any download; what it says compares with nothing."""

import torch
from torch import Tensor, nn

from spae.judges.base import DISTANCE, FRECHET, INCEPTION, Judge, JudgeRecord, View
from spae.judges.weights import weights_sha256

NAME, SEED = "tiny", 0
FIGURES = {
    FRECHET: "Frechet distance (random network)",
    INCEPTION: "Inception-style score (random network)",
    DISTANCE: "LPIPS-style distance (random network)",
}


class TinyJudge(Judge):
    """Two convolutions with seeded random weights: features (B, 16), logits (B, 10), two maps."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            first, second, head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1), nn.Linear(16, 10)
        record = JudgeRecord(
            name=NAME,
            sha256=weights_sha256(nn.ModuleList([first, second, head])),
            licence="none needed",
            source=f"random weights of seed {SEED}",
            preprocessing="uint8, x / 127.5 - 1",
            figures=FIGURES,
            comparable=False,
        )
        super().__init__(record)
        self.first, self.second, self.head = first, second, head
        self.freeze()

    def forward(self, pixels: Tensor) -> View:
        """All that can be seen in uint8 pictures (B, 3, H, W)."""
        first = self.first(pixels.float() / 127.5 - 1).relu()
        second = self.second(first).relu()
        features = second.mean((2, 3))
        return View(features, 10 * self.head(features), (first, second))
