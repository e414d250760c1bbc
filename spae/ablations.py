"""The rows of the paper's ablation table (Tab. 4), the 8-layer variant, and baselines, each as a change of a preset.

What the paper does not tell is decided here: a row with one or two full layers guides its first with the threshold of
the full layer, the last of the preset's; without thresholds per layer all layers have that of the middle one; without a
dynamic weight the fixed weight is 1.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spae.config import TrainConfig

Change = Callable[[TrainConfig], TrainConfig]


@dataclass(frozen=True)
class Row:
    """A row of the ablation table: calling it changes a preset into it."""

    change: Change
    in_paper: bool = False
    raw_table: bool = False
    """Whether it needs a vocabulary of raw rows (facts 8.1)."""

    def __call__(self, config: TrainConfig) -> TrainConfig:
        """The preset's configuration as this row trains it."""
        return self.change(config)


ABLATIONS: dict[str, Row] = {}
"""Rows by name, the paper's first and in its order; `row` registers them."""


def row(name: str, *, in_paper: bool = False, raw_table: bool = False) -> Callable[[Change], Change]:
    """Register a change of a preset as the row of this name."""

    def register(change: Change) -> Change:
        ABLATIONS[name] = Row(change, in_paper, raw_table)
        return change

    return register


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


@row("vq", in_paper=True)
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


@row("frozen", in_paper=True)
def frozen_vq(config: TrainConfig) -> TrainConfig:
    """VQ on the frozen words, without semantic loss."""
    return _objective(_full_layers(config, 1, "vector"), semantic_weight=0.0)


@row("semantic", in_paper=True)
def semantic_vq(config: TrainConfig) -> TrainConfig:
    """VQ on the frozen words with the semantic loss."""
    return _full_layers(config, 1, "vector")


@row("rq-2", in_paper=True)
def residual_2(config: TrainConfig) -> TrainConfig:
    """Two full layers of residual quantization."""
    return _full_layers(config, 2, "residual")


@row("saq-2", in_paper=True)
def average_2(config: TrainConfig) -> TrainConfig:
    """Two full layers of streaming average quantization."""
    return _full_layers(config, 2, "pyramid")


@row("pyramid", in_paper=True)
def same(config: TrainConfig) -> TrainConfig:
    """The preset itself."""
    return config


@row("one-threshold", in_paper=True)
def one_threshold(config: TrainConfig) -> TrainConfig:
    """No thresholds per layer."""
    thresholds = config.objective.semantic_thresholds
    return _objective(config, semantic_thresholds=(thresholds[len(thresholds) // 2],) * len(thresholds))


@row("fixed-weight", in_paper=True)
def fixed_weight(config: TrainConfig) -> TrainConfig:
    """No dynamic weight."""
    return _objective(config, dynamic_weight=False)


@row("no-perceptual", in_paper=True)
def no_perceptual(config: TrainConfig) -> TrainConfig:
    """No perceptual loss."""
    return _objective(config, perceptual_weight=0.0)


@row("spae-8")
def eight_layers(config: TrainConfig) -> TrainConfig:
    """SPAE-8: two more full layers, guided as before (facts 2.4)."""
    return _model(config, grids=(*config.model.grids, *(config.model.latent_grid,) * 2))


@row("lqae")
def lqae(config: TrainConfig) -> TrainConfig:
    """Like LQAE: frozen table, one layer, search by cosine, no semantic loss (facts 7)."""
    return _objective(_model(_full_layers(config, 1, "vector"), search="cosine"), semantic_weight=0.0)


@row("projected")
def projected_table(config: TrainConfig) -> TrainConfig:
    """The pyramid on a learned linear map of the frozen rows; beyond the paper."""
    return _objective(_model(config, table="projected"), codebook_weight=1.0)


@row("rq-pyramid")
def residual_pyramid(config: TrainConfig) -> TrainConfig:
    """The pyramid's grids with residual quantization; not in the paper, for a fair pair with the pyramid."""
    return _model(config, quantizer="residual")


@row("unguided")
def unguided(config: TrainConfig) -> TrainConfig:
    """The pyramid without semantic loss; not in the paper."""
    return _objective(config, semantic_weight=0.0)


@row("literal-temperature")
def literal_temperature(config: TrainConfig) -> TrainConfig:
    """Equation 7 as it is printed: softmax(-|z - e|^2), against facts 8.2."""
    return _model(config, temperature=1.0)


@row("no-statistics")
def no_statistics(config: TrainConfig) -> TrainConfig:
    """The encoder's output as it comes, against facts 8.4."""
    return _model(config, latent_statistics="none")


@row("literal-commitment")
def literal_commitment(config: TrainConfig) -> TrainConfig:
    """Element mean at .33, against facts 8.7."""
    return _objective(config, commitment_weight=0.33, commitment_reduction="element")


@row("raw-table", raw_table=True)
def raw_table(config: TrainConfig) -> TrainConfig:
    """The preset on raw rows."""
    return config


@row("literal", raw_table=True)
def literal(config: TrainConfig) -> TrainConfig:
    """All of the paper-literal choices of facts 8 at once; on raw rows."""
    return literal_commitment(no_statistics(literal_temperature(config)))


PAPER_ROWS = tuple(name for name, one in ABLATIONS.items() if one.in_paper)
RAW_TABLE_ROWS = tuple(name for name, one in ABLATIONS.items() if one.raw_table)
