"""What the paper prints of understanding by a frozen language model (Tab. 1, Tab. 3, Fig. 3), by names of SETTINGS.

These were measured on other pictures, models and language models than anything run here: they stand beside, they are no
target that a test could hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from spae.incontext.prompts import SETTINGS


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A system's line in a table of the paper.

    Attributes:
        system: as the paper calls it.
        language_model: that read the pictures; Frozen trains its own.
        layers: whose words were told; None for Frozen, and where our copy of the paper does not say.
        percents: of right answers, as printed, by setting.
        averages: as printed, by ways; empty where the table prints none.
    """

    system: str
    language_model: str
    layers: int | None
    percents: Mapping[str, float]
    averages: Mapping[int, float]


def _row(
    system: str,
    language_model: str,
    layers: int | None,
    two_way: tuple[float, ...],
    five_way: tuple[float, ...],
    averages: tuple[float, float],
) -> PublishedRow:
    return PublishedRow(
        system=system,
        language_model=language_model,
        layers=layers,
        percents=dict(zip(SETTINGS, two_way + five_way, strict=True)),
        averages=dict(zip((2, 5), averages, strict=True)),
    )


FROZEN, GPT, PALM = "Frozen's own, trained with its image encoder", "GPT 3.5 (text-davinci-003)", "PaLM 2-L"

TABLE_1 = (
    _row(
        "Frozen",
        FROZEN,
        None,
        (1.7, 33.7, 66.0, 66.0, 63.0, 65.0, 63.7),
        (0.9, 14.5, 34.7, 33.8, 33.8, 33.3, 32.8),
        (51.3, 26.26),
    ),
    _row(
        "LQAE",
        GPT,
        1,
        (1.5, 35.2, 68.2, 69.8, 68.5, 68.7, 65.9),
        (1.0, 15.7, 35.9, 36.5, 31.9, 36.4, 45.9),
        (53.97, 29.04),
    ),
    _row(
        "SPAE_GPT",
        GPT,
        2,
        (5.3, 77.2, 84.4, 86.0, 79.4, 77.2, 77.1),
        (4.3, 63.0, 63.4, 60.6, 61.9, 62.1, 62.1),
        (69.51, 53.91),
    ),
    _row(
        "SPAE_PaLM",
        PALM,
        2,
        (32.2, 84.0, 88.5, 88.4, 85.1, 83.6, 82.4),
        (23.6, 64.2, 68.0, 69.9, 63.4, 62.0, 60.2),
        (77.74, 58.76),
    ),
    _row(
        "SPAE_PaLM",
        PALM,
        3,
        (27.9, 84.8, 92.5, 92.6, 84.8, 85.2, 85.4),
        (20.2, 65.1, 73.7, 74.3, 66.4, 67.0, 66.3),
        (79.03, 61.86),
    ),
)
"""Few-shot classification on mini-ImageNet."""

_SHOTS = ("2-way-1-shot", "2-way-3-shot", "2-way-5-shot")

TABLE_3 = (
    PublishedRow(
        system="Frozen",
        language_model=FROZEN,
        layers=None,
        percents=dict(zip(_SHOTS, (7.8, 10.1, 10.5), strict=True)),
        averages={},
    ),
    PublishedRow(
        system="SPAE_PaLM",
        language_model=PALM,
        layers=None,
        percents=dict(zip(_SHOTS, (14.3, 15.9, 15.1), strict=True)),
        averages={},
    ),
)
"""Real-Fast-VQA, by inner shots."""

FIGURE_3_SETTINGS = tuple(name for name, setting in SETTINGS.items() if setting.induction and not setting.repeats)
"""The six of Fig. 3."""

_ABLATION = {1: 52.0, 2: 64.2, 3: 65.1, 4: 58.5, 5: 46.3}  # Tab. 4's accuracy, which is 5-way 1-shot


def _layers_row(layers: int) -> PublishedRow:
    percents = {"5-way-1-shot": _ABLATION[layers]}
    for row in TABLE_1:
        if (row.system, row.layers) == ("SPAE_PaLM", layers):
            percents = {name: row.percents[name] for name in FIGURE_3_SETTINGS}
    return PublishedRow(system="SPAE_PaLM", language_model=PALM, layers=layers, percents=percents, averages={})


FIGURE_3 = tuple(_layers_row(layers) for layers in _ABLATION)
"""Accuracy against layers: the figure has no numbers, so these are those of Tab. 1 and Tab. 4."""
