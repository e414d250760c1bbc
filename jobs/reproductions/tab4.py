"""Tab. 4: the pyramid's own rows of the ablation, layer by layer (section 4.4)."""

from jobs.reproductions.reconstructions import ReconstructionTable

_SPAE = "SPAE, 128"
_CLIP = {1: 0.1879, 2: 0.1868, 3: 0.1815, 4: 0.1711, 5: 0.1604, 6: 0.1577}
_OTHERS = {
    5: {"FID": {_SPAE: 9.49}, "IS": {_SPAE: 109.46}, "LPIPS": {_SPAE: 0.17}},
    6: {"FID": {_SPAE: 4.41}, "IS": {_SPAE: 133.03}, "LPIPS": {_SPAE: 0.12}},
}

TABLE = ReconstructionTable(
    title="Tab. 4: the pyramid of six layers",
    layers=(1, 2, 3, 4, 5, 6),
    published={layers: {"CLIP score": {_SPAE: score}, **_OTHERS.get(layers, {})} for layers, score in _CLIP.items()},
    notes=(
        "The table's other rows are other models: `python -m jobs.ablate` trains them, and this command measures each "
        "with --model and --layers. Classification is `python -m jobs.reproduce tab1`, 5-way 1-shot.",
        "CLIP scores are over the words of layers 1 to l; whether the paper's are is not told (facts 5.3).",
    ),
)
