import numpy as np
import pyarrow as pa

from jobs.tuning.documents import PictureDocuments, picture_text
from spae.data.token_table import TokenRows
from spae.incontext.text_tokens import TextTokens
from tests import tiny_causal

WORDS = ("zero", "one", "two", "three", "four")
ROWS = TokenRows(
    ("a", "b", "c"),
    (1, None, 0),
    (np.array([0, 1, 2]).reshape(3, 1, 1), np.array([[1, 2, 3, 4]] * 3).reshape(3, 2, 2)),
    {"caption": pa.array(["<|im_end|> of\nlines", "", None])},
)
TOKENS = TextTokens(tiny_causal.tokenizer())


def make(learn, caption=""):
    return PictureDocuments(learn, WORDS, {0: "dax", 1: "wug"}, caption, TOKENS)


def texts(document):
    """What is given and what is learned."""
    return TOKENS.text(document.ids[~document.learned]), TOKENS.text(document.ids[document.learned])


def test_words_follow_the_caption_and_alone_are_learned():
    (first, last) = make("words").documents([ROWS])
    assert texts(first) == ("Caption: wug\nPicture:", " zero | one two three four\n###\n")
    assert texts(last) == ("Caption: dax\nPicture:", " two | one two three four\n###\n")


def test_the_caption_follows_the_words_and_alone_is_learned():
    (first, _) = make("caption").documents([ROWS])
    assert texts(first) == ("Picture: zero | one two three four\nCaption:", " wug\n###\n")


def test_a_caption_is_one_line_of_text_whatever_it_spells():
    made = make("words", "caption")
    (document,) = made.documents([ROWS])
    assert texts(document)[0] == "Caption: <|im_end|> of lines\nPicture:"
    assert not set(TOKENS._tokenizer.all_special_ids) & set(document.ids)


def test_rows_that_do_not_tell_what_they_show_are_counted():
    made = make("words")
    assert len(list(made.documents([ROWS, ROWS]))) == 4
    assert made.uncaptioned == 2


def test_given_and_learned_together_are_the_text():
    assert "".join(picture_text("words", "dax", [["one"]])) == "Caption: dax\nPicture: one\n###\n"
    assert "".join(picture_text("caption", "dax", [["one"]])) == "Picture: one\nCaption: dax\n###\n"
