"""Pictures of what a model does: words where they stand in the grid, reconstructions, word usage, training curves.

Figures are matplotlib objects on the Agg canvas; no display is needed and none is opened.
"""

import colorsys
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from spae.evaluation.pixels import psnr
from spae.model import SPAE, unit_pixels
from spae.pyramid import TokenPyramid

INK, FAINT, HIT = "#22252b", "#8a8f98", "#b3261e"
_PALETTE = ("#2f5d9b", "#c26a1b", "#3d8361", "#7a4e9b", FAINT)
DPI = 160
_LEGEND = (
    "Above: the words of each layer where they stand in its grid, like words in like colours.\n"
    "Below: what layers 1 to l rebuild, and its PSNR."
)
_LARGEST_TYPE, _SMALLEST_TYPE, _TYPE_SPREAD = 15.0, 2.2, 1.3  # the last: largest over smallest type in one layer
_TYPE_WIDTH, _FILLED = 0.66, 0.92  # of a letter, in its size; share of a cell that a word may take

Floats = NDArray[np.float64]
Rows = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class PyramidExample:
    """One picture, its words and what is rebuilt of them.

    Attributes:
        title: what it shows.
        original: float (H, W, 3) in [0, 1].
        layers: word ids (h, w) of each layer.
        rebuilt: float (H, W, 3) from 1 to D layers.
        psnr: dB of each of them.
    """

    title: str
    original: Floats
    layers: tuple[NDArray[np.int64], ...]
    rebuilt: tuple[Floats, ...]
    psnr: tuple[float, ...]


def pyramid_examples(model: SPAE, pixels: Tensor, pyramid: TokenPyramid, titles: Sequence[str]) -> list[PyramidExample]:
    """Rebuild pictures, uint8 or float (B, 3, H, W), from 1 to D layers of their words."""
    originals = unit_pixels(pixels).cpu()
    rebuilt = [model.decode(pyramid, layers).cpu() for layers in range(1, pyramid.depth + 1)]
    examples = []
    for row, title in enumerate(titles):
        errors = [float((part[row].double() - originals[row].double()).square().mean()) for part in rebuilt]
        examples.append(
            PyramidExample(
                title=title,
                original=_last_channels(originals[row]),
                layers=tuple(layer[row].cpu().numpy() for layer in pyramid.layers),
                rebuilt=tuple(_last_channels(part[row]) for part in rebuilt),
                psnr=tuple(psnr(error) for error in errors),
            )
        )
    return examples


def word_colours(embeddings: Tensor) -> Floats:
    """A pale colour (K, 3) for each word of a table (K, C): words that lie in like directions have like hues."""
    centred = embeddings.double() - embeddings.double().mean(0)
    _, directions = torch.linalg.eigh(centred.T @ centred)
    plane = centred @ directions[:, -2:]
    angles = torch.atan2(plane[:, 0], plane[:, 1]) / (2 * math.pi) % 1
    radii = plane.norm(dim=1)
    saturations = 0.12 + 0.33 * radii / radii.max().clamp_min(1e-12)
    hues = zip(angles.tolist(), saturations.tolist(), strict=True)
    return np.array([colorsys.hsv_to_rgb(hue, saturation, 0.98) for hue, saturation in hues])


def pyramid_figure(
    examples: Sequence[PyramidExample], words: Sequence[str], colours: Floats, cards_a_row: int = 2
) -> Figure:
    """One card a picture: above, the words of each layer where they stand; below, what layers 1 to l give with PSNR.

    Args:
        examples: pictures with one number of layers.
        words: the vocabulary's words by id.
        colours: (K, 3) from `word_colours`; like words have like colours.
        cards_a_row: cards beside each other.
    """
    if not examples:
        raise ValueError("no examples to draw; give at least one")
    panel, gap, head = 1.5, 0.1, 0.5  # inches
    columns = len(examples[0].layers) + 1
    card_width, card_height = columns * (panel + gap) + 0.35, 2 * panel + gap + head + 0.3
    rows = math.ceil(len(examples) / cards_a_row)
    width, height = cards_a_row * card_width, rows * card_height + 0.75
    figure = _figure(width, height)
    figure.text(0.2 / width, 1 - 0.35 / height, _LEGEND, fontsize=11, color=INK, va="center")
    for number, example in enumerate(examples):
        row, column = divmod(number, cards_a_row)
        left, top = column * card_width + 0.2, height - 0.6 - row * card_height
        place = _Placer(figure, left, top - head, panel, gap)
        _draw_card(place, example, words, colours)
    return figure


class _Placer:
    """Makes square axes by column and line of a card, in inches from its top left corner."""

    def __init__(self, figure: Figure, left: float, top: float, panel: float, gap: float) -> None:
        self.figure, self.left, self.top, self.panel, self.gap = figure, left, top, panel, gap

    def axes(self, column: int, line: float) -> Axes:
        width, height = self.figure.get_size_inches()
        x = self.left + column * (self.panel + self.gap)
        y = self.top - (line + 1) * self.panel - line * (self.gap + 0.05)
        axes = self.figure.add_axes((x / width, y / height, self.panel / width, self.panel / height))
        axes.set_axis_off()
        return axes


def _draw_card(place: _Placer, example: PyramidExample, words: Sequence[str], colours: Floats) -> None:
    axes = place.axes(0, 0.5)
    axes.imshow(example.original, vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(example.title, fontsize=14, fontweight="bold", color=INK, pad=6)
    axes.text(0.5, -0.04, "original", fontsize=8.5, color=FAINT, ha="center", va="top", transform=axes.transAxes)
    for number, ids in enumerate(example.layers, 1):
        grid = place.axes(number, 0)
        _draw_words(grid, ids, words, colours, example.title, place.panel)
        height, width = ids.shape
        title = f"layer {number}" + ("" if height == width == 1 else f"  {height}×{width}")
        grid.set_title(title, fontsize=9, color=INK, pad=5)
        rebuilt = place.axes(number, 1)
        rebuilt.imshow(example.rebuilt[number - 1], vmin=0, vmax=1, interpolation="nearest")
        rebuilt.text(
            0.5, -0.04, f"{example.psnr[number - 1]:.1f} dB", fontsize=8.5, color=INK,
            ha="center", va="top", transform=rebuilt.transAxes,
        )  # fmt: skip


def _draw_words(
    axes: Axes, ids: NDArray[np.int64], words: Sequence[str], colours: Floats, title: str, panel: float
) -> None:
    height, width = ids.shape
    axes.imshow(colours[ids], interpolation="nearest", extent=(0, width, height, 0), aspect="auto")
    for line in range(1, height):
        axes.axhline(line, color="white", linewidth=1.2 if height < 8 else 0.5)
    for line in range(1, width):
        axes.axvline(line, color="white", linewidth=1.2 if width < 8 else 0.5)
    shown = {int(number): words[int(number)] for number in ids.flat}
    sizes = {number: _type_size(word, 72 * panel / width, 72 * panel / height) for number, word in shown.items()}
    largest = _TYPE_SPREAD * min(sizes.values())
    for (row, column), number in np.ndenumerate(ids):
        word = shown[int(number)]
        hit = word == title
        axes.text(
            column + 0.5, row + 0.5, word, fontsize=min(sizes[int(number)], largest), color=HIT if hit else INK,
            fontweight="bold" if hit else "normal", ha="center", va="center", clip_on=True,
        )  # fmt: skip


def _type_size(word: str, width: float, height: float) -> float:
    """The type in which a word fills a cell of so many points."""
    fitting = min(_FILLED * width / (_TYPE_WIDTH * max(len(word), 2)), 0.6 * height)
    return min(max(fitting, _SMALLEST_TYPE), _LARGEST_TYPE)


def usage_figure(counts: Sequence[Sequence[int]], words: Sequence[str], shown: int = 12) -> Figure:
    """Which words each layer uses: shares by rank, and the most frequent words by name.

    Args:
        counts: for each layer, how often each word occurs, (D, K).
        words: the vocabulary's words by id.
        shown: most frequent words of a layer that are named.
    """
    depth = len(counts)
    figure = _figure(2.6 * depth, 3.4)
    for number, layer in enumerate(np.asarray(counts, dtype=np.float64), 1):
        axes = figure.add_subplot(1, depth, number)
        shares = layer / max(layer.sum(), 1)
        best = [word for word in np.argsort(-shares, kind="stable")[:shown] if shares[word] > 0]
        axes.barh(range(len(best)), [100 * shares[word] for word in best], color="#5b7db1", height=0.72)
        axes.set_yticks(range(len(best)), [words[int(word)] for word in best], fontsize=8, color=INK)
        axes.set_ylim(shown - 0.4, -0.6)
        used = int((layer > 0).sum())
        perplexity = math.exp(-sum(share * math.log(share) for share in shares if share > 0))
        axes.set_title(f"layer {number}\n{used} words, perplexity {perplexity:.1f}", fontsize=9, color=INK)
        axes.set_xlabel("% of the layer's words", fontsize=8, color=INK)
        _plain(axes)
    figure.tight_layout()
    return figure


def curves_figure(histories: Mapping[str, Rows], names: Mapping[str, str], axis: str = "step") -> Figure:
    """Curves: one panel a quantity, four beside each other, one line a run; rows without the quantity are left out.

    Args:
        histories: for each run its rows, each with `step`, its place on the axis.
        names: title of each quantity that is shown.
        axis: what is counted there; other than steps its rows are marked, on a logarithmic scale.
    """
    rows, columns, few = math.ceil(len(names) / 4), min(4, len(names)), axis != "step"
    figure = _figure(3.3 * columns, 2.8 * rows)
    for number, (name, title) in enumerate(names.items(), 1):
        axes = figure.add_subplot(rows, columns, number)
        for colour, (run, history) in zip(_PALETTE, histories.items(), strict=False):
            if points := [(row["step"], row[name]) for row in history if name in row]:
                axes.plot(*zip(*points, strict=True), "o-" if few else "-", label=run, color=colour, linewidth=1.6)
        axes.set_xscale("log" if few else "linear")
        axes.set_title(title, fontsize=9, color=INK)
        axes.set_xlabel(axis, fontsize=8, color=INK)
        _plain(axes)
        if number == 1 and axes.lines:
            axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return figure


@dataclass(frozen=True)
class MeasuredPoint:
    """A value of so many first layers, and its 95% interval."""

    layers: int
    value: float
    low: float
    high: float


def layers_figure(
    measured: Mapping[str, Sequence[MeasuredPoint]], published: Mapping[str, Mapping[int, float]], unit: str
) -> Figure:
    """Values against layers, a panel a title: ours with intervals, the paper's hollow."""
    columns = min(3, len(measured))
    figure = _figure(3.3 * columns, 2.6 * math.ceil(len(measured) / columns))
    for number, (title, points) in enumerate(measured.items(), 1):
        axes = figure.add_subplot(math.ceil(len(measured) / columns), columns, number)
        reach = [[p.value - p.low for p in points], [p.high - p.value for p in points]]
        places = [p.layers for p in points], [p.value for p in points]
        axes.errorbar(*places, yerr=reach, color=HIT, marker="o", capsize=3, label="here")
        theirs = published[title]
        axes.plot(list(theirs), list(theirs.values()), "o--", color=FAINT, markerfacecolor="none", label="the paper")
        axes.set_title(title, fontsize=9, color=INK)
        axes.set_xlabel("layers", fontsize=8, color=INK)
        axes.set_ylabel(unit, fontsize=8, color=INK)
        axes.set_ylim(0, 105)
        axes.set_xticks(sorted({*places[0], *theirs}))
        _plain(axes)
        if number == 1:
            axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return figure


def histogram_figure(panels: Mapping[str, Tensor], columns: int = 2) -> Figure:
    """Histograms of some quantities (n,), by title; a line marks the median."""
    rows = math.ceil(len(panels) / columns)
    figure = _figure(5.2 * columns, 2.6 * rows)
    for number, (title, values) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        middle, low, high = float(values.median()), float(values.min()), float(values.max())
        margin = max(0.0, 0.01 - (high - low))  # values that are all one get one bar, not their rounding
        axes.hist(values.numpy(), bins=61, range=(low - margin, high + margin), color=FAINT)
        axes.axvline(middle, color=HIT, linewidth=1)
        axes.set_title(f"{title} (median {middle:.3f})", fontsize=8, color=INK)
        _plain(axes)
    figure.tight_layout()
    return figure


def pictures_figure(panels: Mapping[str, NDArray[np.uint8]], columns: int = 4) -> Figure:
    """Pictures uint8 (H, W, 3) of any size side by side, each below its title."""
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    tallest = max(picture.shape[0] / picture.shape[1] for picture in panels.values())
    figure = _figure(2.4 * columns, (2.4 * tallest + 0.4) * rows)
    for number, (title, picture) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(title, fontsize=7, color=INK)
        axes.set_axis_off()
    figure.tight_layout()
    return figure


def png_bytes(figure: Figure, dpi: int = DPI) -> bytes:
    """A figure as a PNG file."""
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=dpi)
    return sink.getvalue()


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)


def _last_channels(picture: Tensor) -> Floats:
    return picture.permute(1, 2, 0).double().numpy()
