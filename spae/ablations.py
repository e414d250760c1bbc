"""The rows of the paper's ablation table (Tab. 4), the 8-layer variant, and baselines, each as a change of a preset.

What the paper does not tell is decided here: a row with one or two full layers guides its first with the threshold of
the full layer, the last of the preset's; without thresholds per layer all layers have that of the middle one; without a
dynamic weight the fixed weight is 1.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from spae.config import TrainConfig

Change = Callable[[TrainConfig], TrainConfig]

BASELINE_WORDS, BASELINE_WIDTH = 1_024, 256
"""Codebook of the learned baseline (facts 2.2)."""


def _model(config: TrainConfig, **values: Any) -> TrainConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **values))


def _objective(config: TrainConfig, **values: Any) -> TrainConfig:
    return dataclasses.replace(config, objective=dataclasses.replace(config.objective, **values))


def _full_layers(config: TrainConfig, layers: int, quantizer: str) -> TrainConfig:
    """Layers of the latent grid alone, the first of them guided."""
    threshold = config.objective.semantic_thresholds[-1]
    config = _objective(config, semantic_thresholds=(threshold,))
    return _model(config, grids=(config.model.latent_grid,) * layers, quantizer=quantizer)


def learned_vq(config: TrainConfig) -> TrainConfig:
    """VQ with a learned codebook: commitment .25, codebook loss 1, entropy loss .1, no semantic loss."""
    config = _full_layers(config, 1, "vector")
    config = _model(
        config,
        table="learned",
        table_size=BASELINE_WORDS,
        embedding_width=BASELINE_WIDTH,
        latent_statistics="none",
    )
    return _objective(
        config,
        semantic_weight=0.0,
        commitment_weight=0.25,
        commitment_reduction="element",
        codebook_weight=1.0,
        entropy_weight=0.1,
    )


def frozen_vq(config: TrainConfig) -> TrainConfig:
    """VQ on the frozen words, without semantic loss."""
    return _objective(_full_layers(config, 1, "vector"), semantic_weight=0.0)


def semantic_vq(config: TrainConfig) -> TrainConfig:
    """VQ on the frozen words with the semantic loss."""
    return _full_layers(config, 1, "vector")


def residual_2(config: TrainConfig) -> TrainConfig:
    """Two full layers of residual quantization."""
    return _full_layers(config, 2, "residual")


def average_2(config: TrainConfig) -> TrainConfig:
    """Two full layers of streaming average quantization."""
    return _full_layers(config, 2, "pyramid")


def residual_pyramid(config: TrainConfig) -> TrainConfig:
    """The pyramid's grids with residual quantization; not in the paper, for a fair pair with the pyramid."""
    return _model(config, quantizer="residual")


def unguided(config: TrainConfig) -> TrainConfig:
    """The pyramid without semantic loss; not in the paper."""
    return _objective(config, semantic_weight=0.0)


def one_threshold(config: TrainConfig) -> TrainConfig:
    """No thresholds per layer."""
    thresholds = config.objective.semantic_thresholds
    return _objective(config, semantic_thresholds=(thresholds[len(thresholds) // 2],) * len(thresholds))


def fixed_weight(config: TrainConfig) -> TrainConfig:
    """No dynamic weight."""
    return _objective(config, dynamic_weight=False)


def no_perceptual(config: TrainConfig) -> TrainConfig:
    """No perceptual loss."""
    return _objective(config, perceptual_weight=0.0)


def eight_layers(config: TrainConfig) -> TrainConfig:
    """SPAE-8: two more full layers, guided as before (facts 2.4)."""
    return _model(config, grids=(*config.model.grids, *(config.model.latent_grid,) * 2))


def lqae(config: TrainConfig) -> TrainConfig:
    """Like LQAE: frozen table, one layer, search by cosine, no semantic loss (facts 7)."""
    return _objective(_model(_full_layers(config, 1, "vector"), search="cosine"), semantic_weight=0.0)


def projected_table(config: TrainConfig) -> TrainConfig:
    """The pyramid on a learned linear map of the frozen rows; beyond the paper."""
    return _objective(_model(config, table="projected"), codebook_weight=1.0)


def literal_temperature(config: TrainConfig) -> TrainConfig:
    """Equation 7 as it is printed: softmax(-|z - e|^2), against facts 8.2."""
    return _model(config, temperature=1.0)


def no_statistics(config: TrainConfig) -> TrainConfig:
    """The encoder's output as it comes, against facts 8.4."""
    return _model(config, latent_statistics="none")


def literal_commitment(config: TrainConfig) -> TrainConfig:
    """Element mean at .33, against facts 8.7."""
    return _objective(config, commitment_weight=0.33, commitment_reduction="element")


def literal(config: TrainConfig) -> TrainConfig:
    """All of the paper-literal choices of facts 8 at once; on raw rows."""
    return literal_commitment(no_statistics(literal_temperature(config)))


def same(config: TrainConfig) -> TrainConfig:
    """The preset itself."""
    return config


ABLATIONS: dict[str, Change] = {
    "vq": learned_vq,
    "frozen": frozen_vq,
    "semantic": semantic_vq,
    "rq-2": residual_2,
    "saq-2": average_2,
    "pyramid": same,
    "one-threshold": one_threshold,
    "fixed-weight": fixed_weight,
    "no-perceptual": no_perceptual,
    "spae-8": eight_layers,
    "lqae": lqae,
    "projected": projected_table,
    "rq-pyramid": residual_pyramid,
    "unguided": unguided,
    "literal-temperature": literal_temperature,
    "no-statistics": no_statistics,
    "literal-commitment": literal_commitment,
    "raw-table": same,
    "literal": literal,
}
"""Rows by name; the first nine are the paper's, in its order."""

RAW_TABLE_ROWS = ("raw-table", "literal")
"""Rows that need a vocabulary of raw rows (facts 8.1)."""
