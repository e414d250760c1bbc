"""Tab. 4: the pyramid layer by layer, and the other rows of the ablation (section 4.4)."""

from jobs.reproductions.reconstructions import Published, ReconstructionTable

_SPAE = "SPAE, 128"
_CLIP = {1: 0.1879, 2: 0.1868, 3: 0.1815, 4: 0.1711, 5: 0.1604, 6: 0.1577}
_OTHERS = {
    5: {"FID": {_SPAE: 9.49}, "IS": {_SPAE: 109.46}, "LPIPS": {_SPAE: 0.17}},
    6: {"FID": {_SPAE: 4.41}, "IS": {_SPAE: 133.03}, "LPIPS": {_SPAE: 0.12}},
}


def _printed(layers: int, *figures: float) -> Published:
    """FID, IS, LPIPS and, of words, the CLIP score."""
    names = ("FID", "IS", "LPIPS", "CLIP score")
    return {layers: {name: {"the paper, 128": value} for name, value in zip(names, figures, strict=False)}}


ROWS: dict[str, Published] = {
    "vq": _printed(1, 5.48, 119.69, 0.13),
    "frozen": _printed(1, 7.44, 101.39, 0.17, 0.1464),
    "semantic": _printed(1, 5.17, 124.41, 0.13, 0.1518),
    "rq-2": {**_printed(1, 11.94, 89.01, 0.22, 0.1595), **_printed(2, 6.05, 113.93, 0.15, 0.1547)},
    "saq-2": {**_printed(1, 12.30, 93.33, 0.21, 0.1613), **_printed(2, 5.08, 125.27, 0.14, 0.1595)},
    "one-threshold": _printed(6, 4.33, 122.25, 0.11, 0.1650),
    "fixed-weight": _printed(6, 9.00, 85.14, 0.19, 0.1847),
    "no-perceptual": _printed(6, 40.47, 33.41, 0.20, 0.1994),
}
"""What the paper prints of other models than the pyramid, by the names of `spae.ablations`."""

TABLE = ReconstructionTable(
    title="Tab. 4: the pyramid of six layers, and other models",
    layers=(1, 2, 3, 4, 5, 6),
    published={layers: {"CLIP score": {_SPAE: score}, **_OTHERS.get(layers, {})} for layers, score in _CLIP.items()},
    others=ROWS,
    notes=(
        "With --model the pyramid's own rows; with --models all rows, of the models that `python -m jobs.ablate` left "
        "in its output. Classification is `python -m jobs.reproduce tab1`, 5-way 1-shot.",
        "CLIP scores are over the words of layers 1 to l; whether the paper's are is not told (facts 5.3).",
    ),
)
