"""A question about a picture that a language model is told as words."""

import numpy as np
import pytest
from PIL import Image

from jobs import ask
from spae.model import SPAE
from tests.completions_server import serving


def words(model, picture, layers):
    loaded = SPAE.from_pretrained(model)
    ids = loaded.encode(Image.open(picture)).flatten(layers=layers)[0].tolist()
    return " ".join(loaded.vocabulary.word_list[number] for number in ids)


def test_the_prompt_tells_words_and_question_and_the_answer_is_printed(model, pictures, capsys):
    with serving() as server:
        flags = ("--llm", server.url, "--llm-name", "tiny", "--model", model, "--layers", "2")
        examples = ("--example", pictures[1], "dax", "--example", pictures[2], "blicket")
        assert ask.main([pictures[0], "what is\nit?", *flags, *examples]) == 0
    (_, content), *_ = server.requests
    told = [f"C: {words(model, picture, 2)}\nQ: what is it?\nA:" for picture in pictures]
    assert content["prompt"] == f"Answer with a single word.\n{told[1]} dax\n{told[2]} blicket\n{told[0]}"
    assert capsys.readouterr().out == "A:\n", "the server answers with the prompt's last word in capitals"


def test_the_reference_names_the_nearest_example(model, pictures, capsys):
    examples = [part for picture in pictures for part in ("--example", picture, f"answer-{picture[-5]}")]
    for picture in pictures:
        assert ask.main([picture, "what?", "--llm", "nearest-context", "--model", model, *examples]) == 0
    assert capsys.readouterr().out.split() == ["answer-0", "answer-1", "answer-2"]


def test_what_is_told_can_be_drawn(model, pictures, tmp_path):
    flags = ("--llm", "nearest-context", "--model", model, "--example", pictures[0], "x")
    assert ask.main([pictures[0], "what?", *flags, "--layers", "3", "--redraw", str(tmp_path / "drawn.png")]) == 0
    loaded = SPAE.from_pretrained(model)
    expected = loaded.decode(loaded.encode(Image.open(pictures[0])), layers=3)[0].permute(1, 2, 0) * 255
    assert np.abs(np.asarray(Image.open(tmp_path / "drawn.png")) - expected.detach().numpy()).max() <= 0.51


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"picture": "none.png"}, "none.png: does not exist"),
        ({"--llm": "nowhere/at/all"}, "there is no language model"),
        ({"--layers": "9"}, "layers"),
        ({"--model": "nothing"}, "nothing"),
    ],
)
def test_what_is_unusable_is_named(model, pictures, caplog, changes, told):
    flags = {"picture": pictures[0], "--llm": "nearest-context", "--model": model, "--layers": "2", **changes}
    place = flags.pop("picture")
    assert ask.main([place, "what?", *(part for pair in flags.items() for part in pair)]) == 2
    assert told in caplog.text


def test_no_answer_is_a_status_of_its_own(model, pictures, caplog):
    assert ask.main([pictures[0], "what?", "--llm", "nearest-context", "--model", model]) == 1
    assert "gave no answer" in caplog.text
