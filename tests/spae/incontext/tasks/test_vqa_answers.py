import pytest
from hypothesis import given
from hypothesis import strategies as st

from spae.incontext.tasks.vqa_answers import normalised_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" The Red Car. ", "red car"),
        ("two", "2"),
        ("None", "0"),
        ("an apple", "apple"),
        ("yes!", "yes"),
        ("left-hand", "left hand"),
        ("left - hand", "left hand"),
        ("1,000", "1000"),
        ("2.5", "2.5"),
        ("dont", "dont"),
        ("Don't", "dont"),
        ("a\nb", "b"),
        ("", ""),
    ],
)
def test_the_rules(text, answer):
    assert normalised_answer(text) == answer


@given(st.text(max_size=40))
def test_case_blanks_and_a_final_stop_do_not_matter(text):
    assert normalised_answer(f"  {text}  ") == normalised_answer(text)
    assert "\n" not in normalised_answer(text)
