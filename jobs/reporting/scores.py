"""The score of a split as a JSON document. Loads without torch."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spae.evaluation.metrics import Share
    from spae.evaluation.reconstruction import RebuiltScore, SplitScore
    from spae.model import SPAE


def score_document(score: SplitScore, model: SPAE) -> dict[str, Any]:
    """A score as JSON values, layer by layer, ids as words."""
    cumulative = list(itertools.accumulate(model.config.layer_sizes))
    layers = []
    for number, (grid, usage) in enumerate(zip(model.config.grids, score.usage, strict=True), 1):
        row: dict[str, Any] = {"layer": number, "grid": grid, "words_so_far": cumulative[number - 1]}
        if number in score.rebuilt:
            row |= _rebuilt(score.rebuilt[number])
        row["usage"] = {**dataclasses.asdict(usage), "top_word": model.vocabulary.word_list[usage.top_word]}
        if score.clip is not None:
            row |= {"clip_score": score.clip.layers[number - 1]}
            row |= {"clip_score_so_far": score.clip.cumulative[number - 1]}
            row |= {"relative_clip_score": score.clip.relative[number - 1]}
            if number <= len(score.clip.pools):
                row["in_pools"] = dataclasses.asdict(score.clip.pools[number - 1])
        if score.readable is not None:
            row["readable"] = {"share": score.readable[0][number - 1], "uniform": score.readable[1]}
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
        "codecs": {
            name: [{"layers": layers, **_rebuilt(one)} for layers, one in sorted(by_layers.items())]
            for name, by_layers in score.codecs.items()
        },
        "counts": {"in": score.samples + score.errors, "out": score.samples, "failed": score.errors},
    }


def _rebuilt(score: RebuiltScore) -> dict[str, Any]:
    pixels = score.pixels
    row: dict[str, Any] = {"psnr": pixels.psnr, "psnr_mean": pixels.psnr_mean}
    row |= {"mean_squared_error": pixels.mean_squared_error, "ssim": score.similarity, "judges": score.judged}
    row |= {} if score.frames is None else {"psnr_frames": score.frames}
    return row if score.bits is None else {**row, "bits": score.bits}


def _share(share: Share | None) -> dict[str, Any] | None:
    return None if share is None else dataclasses.asdict(share)
