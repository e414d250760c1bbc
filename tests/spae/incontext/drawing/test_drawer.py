"""Pictures are drawn segment by segment by a real small model, and what does not come is told."""

import pytest
from transformers import LlamaConfig

from spae.incontext import NearestContext, TransformersModel
from spae.incontext.drawing import Decoding, DrawingRequest, DrawnExample, Sampling, WordDrawer
from spae.incontext.language_model import Answer
from spae.incontext.text import WordText
from tests import tiny_spae
from tests.tiny_causal import SIZES, save_causal

LAYERS = (1, 4)


@pytest.fixture(scope="module")
def writer():
    return WordText(tiny_spae.vocabulary())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return TransformersModel(save_causal(tmp_path_factory.mktemp("llama"), LlamaConfig(**SIZES)))


def requests(count=3, known=0):
    examples = tuple(DrawnExample(f"picture {n}", tuple(range(n, n + 5))) for n in range(4))
    return [DrawingRequest(examples, f"picture {n}", tuple(range(n, n + known))) for n in range(count)]


class Scripted:
    """Answers by a list of texts, one a call and prompt, and remembers what it was asked."""

    def __init__(self, *texts):
        self.texts, self.asked = list(texts), []

    def answer(self, prompts, limits):
        self.asked.append((prompts, limits))
        return [Answer(self.texts.pop(0), 3, 2, 0.5) for _ in prompts]


def test_the_prompt_is_the_papers(writer):
    drawer = WordDrawer(writer, LAYERS, Decoding(stride=2, parallel_layers=0), Sampling())
    first, second, _ = (text for text, _ in drawer.prompts(requests()[1], (9, 8, 7, 6, 5)))
    word = writer.words
    assert first.startswith(
        "Learn a new language and predict the next 1 tokens following the examples.\nC: picture 0\n"
    )
    assert first.endswith("C: picture 1\nQ:\nA:")
    assert second.startswith("Learn a new language and predict the next 2 tokens")
    assert f"C: picture 2\nQ: {word[2]}\nA: {word[3]} {word[4]}\n" in second
    assert second.endswith(f"C: picture 1\nQ: {word[9]}\nA:")


@pytest.mark.parametrize("decoding", [Decoding(stride=0), Decoding(stride=2), Decoding(stride=1, parallel_layers=0)])
def test_a_constrained_model_draws_whole_pictures_whatever_is_drawn_beside(writer, model, decoding):
    drawer = WordDrawer(writer, LAYERS, decoding, Sampling())
    drawings = drawer.draw(requests(), model)
    for drawing in drawings:
        assert not drawing.error
        assert len(drawing.ids) == 5
        assert (drawing.invalid, drawing.foreign) == (0, 0)
    alone = [drawer.draw([request], model)[0].ids for request in requests()]
    assert [drawing.ids for drawing in drawings] == alone


def test_known_layers_are_kept(writer, model):
    drawings = WordDrawer(writer, LAYERS, Decoding(), Sampling()).draw(requests(known=1), model)
    assert [drawing.ids[0] for drawing in drawings] == [0, 1, 2]
    assert [drawing.segments for drawing in drawings] == [1, 1, 1]
    with pytest.raises(ValueError, match="not the first of the layers"):
        WordDrawer(writer, LAYERS, Decoding(), Sampling()).draw(requests(known=3), model)


def test_the_reference_copies_the_nearest_example(writer):
    drawer = WordDrawer(writer, LAYERS, Decoding(stride=0), Sampling())
    assert [drawing.ids for drawing in drawer.draw(requests(), NearestContext())] == [
        list(example.ids) for example in requests()[0].examples[:3]
    ]


def test_what_does_not_parse_is_asked_again_hotter(writer):
    word = writer.words
    model = Scripted("what?", f"{word[3]}", f"{word[1]} oh {word[2]}", f"{word[1]} {word[2]} {word[4]} {word[5]}")
    (drawing,) = WordDrawer(writer, LAYERS, Decoding(), Sampling(constrained=False)).draw(requests(1), model)
    assert drawing.ids == [3, 1, 2, 4, 5]
    assert (drawing.segments, drawing.invalid, drawing.foreign) == (2, 2, 2)
    assert [limits.temperature for _, limits in model.asked] == [0.0, 0.2, 0.0, 0.2]
    assert len({limits.seed for _, limits in model.asked[:2]}) == 2


def test_what_never_comes_costs_its_picture_alone(writer):
    sampling = Sampling(constrained=False, attempts=2)
    model = Scripted("what?", writer.words[3], "who?")
    lost, whole = WordDrawer(writer, (1,), Decoding(), sampling).draw(requests(2), model)
    assert "words 0 to 0 of 1 did not come in 2 attempts" in lost.error
    assert whole.ids == [3]


def test_of_several_candidates_the_likeliest_is_taken(writer, model):
    sampling = Sampling(candidates=4, temperature=1.0)
    decoding = Decoding(stride=0)
    (best,) = WordDrawer(writer, LAYERS, decoding, sampling).draw(requests(1), model)
    (first,) = WordDrawer(writer, LAYERS, decoding, Sampling(candidates=4, temperature=1.0, first_valid=True)).draw(
        requests(1), model
    )
    prompt, likelihoods = best.prompt, []
    for drawing in (best, first):
        likelihoods += model.log_likelihoods([prompt], [[f" {drawing.answers[0]}"]])[0]
    assert likelihoods[0] > likelihoods[1]
    with pytest.raises(ValueError, match="all the same at temperature 0"):
        Sampling(candidates=2)


def test_a_prompt_over_the_context_is_told(writer, model):
    request = DrawingRequest(requests()[0].examples * 80, "picture 0")
    (drawing,) = WordDrawer(writer, LAYERS, Decoding(), Sampling()).draw([request], model)
    assert "over the context of 1024" in drawing.error
