import io

import numpy as np
import pytest
import torch
from PIL import Image

from spae.evaluation.pixels import psnr
from spae.figures import (
    MeasuredPoint,
    curves_figure,
    histogram_figure,
    layers_figure,
    png_bytes,
    pyramid_examples,
    pyramid_figure,
    usage_figure,
    word_colours,
)
from spae.model import unit_pixels
from tests import tiny_spae


@pytest.fixture(scope="module")
def model():
    return tiny_spae.model()


@pytest.fixture(scope="module")
def examples(model):
    pixels = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return pyramid_examples(model, pixels, model.encode(pixels), ["cat", "dog", "word5"])


def _texts(figure):
    """Every text of a figure with the box it takes, in pixels."""
    figure.canvas.draw()
    texts = [text for axes in figure.axes for text in axes.texts] + [axes.title for axes in figure.axes]
    return [(text.get_text(), text.get_window_extent(), text.axes) for text in texts if text.get_text()]


def test_examples_are_what_the_model_rebuilds(model, examples):
    pixels = torch.from_numpy(np.stack([example.original for example in examples])).permute(0, 3, 1, 2).float()
    pyramid = model.encode(pixels)
    for number, example in enumerate(examples):
        assert [layer.shape for layer in example.layers] == [(1, 1), (2, 2), (4, 4), (4, 4)]
        for layers in range(1, 5):
            rebuilt = model.decode(pyramid, layers)[number]
            assert np.allclose(example.rebuilt[layers - 1], rebuilt.permute(1, 2, 0).numpy())
            error = float((rebuilt.double() - unit_pixels(pixels)[number].double()).square().mean())
            assert example.psnr[layers - 1] == pytest.approx(psnr(error), abs=1e-6)


def test_every_word_stands_inside_its_cell_of_the_grid(model, examples):
    words = model.vocabulary.word_list
    figure = pyramid_figure(examples, words, word_colours(model.vocabulary.embeddings))
    placed = [(text, box, axes) for text, box, axes in _texts(figure) if text.startswith("word") and axes.texts]
    placed = [item for item in placed if item[1] and item[0] in words and item[2].title.get_text() != item[0]]
    expected = [words[i] for example in examples for layer in example.layers for i in layer.flatten()]
    assert sorted(text for text, _, _ in placed) == sorted(expected)
    for text, box, axes in placed:
        side = len(axes.texts) ** 0.5
        panel = axes.get_window_extent()
        assert box.width <= panel.width / side + 1, text
        assert box.height <= panel.height / side + 1, text
        assert panel.x0 - 1 <= box.x0, text
        assert box.x1 <= panel.x1 + 1, text


def test_the_picture_tells_psnr_and_title_of_every_example(model, examples):
    figure = pyramid_figure(examples, model.vocabulary.word_list, word_colours(model.vocabulary.embeddings))
    shown = [text for text, _, _ in _texts(figure)]
    for example in examples:
        assert example.title in shown
        assert all(f"{value:.1f} dB" in shown for value in example.psnr)
    assert shown.count("layer 2  2×2") == 3


def test_titles_do_not_overlap(model, examples):
    figure = pyramid_figure(examples, model.vocabulary.word_list, word_colours(model.vocabulary.embeddings))
    boxes = [box for text, box, _ in _texts(figure) if not text.startswith("word")]
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])


def test_no_examples_make_no_figure(model):
    with pytest.raises(ValueError, match="no examples"):
        pyramid_figure([], model.vocabulary.word_list, np.zeros((40, 3)))


def test_like_words_have_like_colours():
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(2, 8, generator=generator), dim=1)
    table = directions.repeat_interleave(10, dim=0) + 0.01 * torch.randn(20, 8, generator=generator)
    colours = word_colours(table)
    assert colours.shape == (20, 3)
    assert colours.min() >= 0
    assert colours.max() <= 1
    within = np.abs(colours[:10] - colours[:10].mean(0)).max()
    between = np.abs(colours[:10].mean(0) - colours[10:].mean(0)).max()
    assert between > 5 * within
    assert np.array_equal(colours, word_colours(table)), "the same table has the same colours"


def test_usage_names_the_most_frequent_words_and_the_perplexity():
    counts = [[0, 30, 10, 0], [5, 5, 5, 5]]
    figure = usage_figure(counts, ["a", "b", "c", "d"])
    first, second = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["b", "c"]
    assert [bar.get_width() for bar in first.patches] == [75.0, 25.0]
    assert first.get_title() == "layer 1\n2 words, perplexity 1.8"
    assert second.get_title() == "layer 2\n4 words, perplexity 4.0"


def test_curves_show_each_run_where_it_has_the_quantity():
    histories = {
        "a": [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "other": 1.0}],
        "b": [{"step": 1, "loss": 4.0}],
    }
    figure = curves_figure(histories, {"loss": "the loss", "other": "another"})
    loss, other = figure.axes
    assert [line.get_label() for line in loss.lines] == ["a", "b"]
    assert loss.lines[0].get_ydata().tolist() == [3.0, 2.0]
    assert [line.get_label() for line in other.lines] == ["a"]
    assert loss.get_title() == "the loss"


def test_layers_show_our_points_with_intervals_and_the_papers():
    measured = {"2-way": [MeasuredPoint(1, 50.0, 40.0, 60.0), MeasuredPoint(2, 70.0, 65.0, 80.0)], "5-way": []}
    published = {"2-way": {2: 84.0, 3: 84.8}, "5-way": {}}
    figure = layers_figure(measured, published, "right, %")
    assert [axes.get_title() for axes in figure.axes] == ["2-way", "5-way"]
    (here,) = figure.axes[0].containers
    assert here.lines[0].get_xydata().tolist() == [[1.0, 50.0], [2.0, 70.0]]
    assert [line.tolist() for line in here.lines[2][0].get_segments()] == [[[1, 40], [1, 60]], [[2, 65], [2, 80]]]
    assert [[2.0, 84.0], [3.0, 84.8]] in [line.get_xydata().tolist() for line in figure.axes[0].lines]


def test_histograms_hold_every_value_and_equal_ones_in_one_bar():
    figure = histogram_figure({"spread": torch.linspace(0, 1, 100), "equal": torch.ones(7) + 1e-7 * torch.randn(7)})
    spread, equal = figure.axes
    assert sum(bar.get_height() for bar in spread.patches) == 100
    assert max(bar.get_height() for bar in equal.patches) == 7
    assert "median 1.000" in equal.get_title()


def test_figures_are_png_files():
    data = png_bytes(usage_figure([[1, 2]], ["a", "b"]))
    assert Image.open(io.BytesIO(data)).size == (int(2.6 * 160), int(3.4 * 160))
