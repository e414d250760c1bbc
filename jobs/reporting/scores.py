"""The score of a split as a JSON document. Loads without torch."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spae.evaluation.metrics import Share
    from spae.evaluation.reconstruction import SplitScore
    from spae.model import SPAE


def score_document(score: SplitScore, model: SPAE) -> dict[str, Any]:
    """A score as JSON values, layer by layer, ids as words."""
    cumulative = list(itertools.accumulate(model.config.layer_sizes))
    layers = []
    for number, (grid, usage) in enumerate(zip(model.config.grids, score.usage, strict=True), 1):
        row: dict[str, Any] = {"layer": number, "grid": grid, "words_so_far": cumulative[number - 1]}
        if number in score.pixels:
            pixel = score.pixels[number]
            row |= {"psnr": pixel.psnr, "psnr_mean": pixel.psnr_mean, "mean_squared_error": pixel.mean_squared_error}
        row["usage"] = {**dataclasses.asdict(usage), "top_word": model.vocabulary.word_list[usage.top_word]}
        if score.clip is not None:
            row |= {"clip_score": score.clip.layers[number - 1]}
            row |= {"clip_score_so_far": score.clip.cumulative[number - 1]}
        layers.append(row)
    swapped = None
    if score.swapped is not None and model.depth in score.pixels:
        swapped = {"psnr": score.swapped.psnr, "lost": score.pixels[model.depth].psnr - score.swapped.psnr}
    return {
        "samples": score.samples,
        "errors": score.errors,
        "layers": layers,
        "first_word": _share(score.first_word),
        "swapped": swapped,
        "baselines": score.baselines and dataclasses.asdict(score.baselines),
        "clip": score.clip and {"zero_shot": _share(score.clip.zero_shot), "best_word": _share(score.clip.best_word)},
    }


def _share(share: Share | None) -> dict[str, Any] | None:
    return None if share is None else dataclasses.asdict(share)
