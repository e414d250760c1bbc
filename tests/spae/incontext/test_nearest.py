"""The reference without weights reads the prompt's text and nothing else."""

import math

import pytest

from spae.incontext import AnswerLimits, NearestContext, Prompt, identify_language_model, open_language_model

LIMITS = AnswerLimits(most_tokens=5)
PREAMBLE = "For each of the following input output pairs, output is one of ['dax', 'wug']\n"


def prompt(query, *examples, preamble=PREAMBLE):
    shared = preamble + "".join(f"###\nInput: {words}\nOutput: {name}\n" for words, name in examples)
    return Prompt(shared, f"###\nInput: {query}\nOutput:")


def answers(*prompts, limits=LIMITS):
    return [answer.text for answer in NearestContext().answer(prompts, limits)]


def test_it_answers_with_the_nearest_output():
    examples = [("seven two seven", "dax"), ("nine four nine", "wug")]
    assert answers(prompt("seven nine seven", *examples), prompt("nine seven nine", *examples)) == ["dax", "wug"]


def test_first_words_weigh_more():
    examples = [("one two three", "dax"), ("three two one", "wug")]
    assert answers(prompt("three one two", *examples), prompt("one three two", *examples)) == ["wug", "dax"]


def test_ties_go_to_the_first():
    assert answers(prompt("one", ("one", "wug"), ("one", "dax"))) == ["wug"]
    assert answers(prompt("zero", ("one", "wug"), ("two", "dax"))) == ["wug"]


def test_names_of_several_words_and_allowed_ones():
    examples = [("one", "golden retriever"), ("two", "dax")]
    assert answers(prompt("one", *examples)) == ["golden retriever"]
    assert answers(prompt("one", *examples), limits=AnswerLimits(most_tokens=5, allowed=("dax",))) == ["dax"]


def test_shares_add_to_one_and_follow_nearness():
    asked = prompt("seven nine", ("seven two", "dax"), ("nine four", "wug"))
    (scores,) = NearestContext().log_likelihoods([asked], [[" dax", " wug", " unknown"]])
    assert sum(map(math.exp, scores)) == pytest.approx(1)
    assert scores[0] > scores[1] > scores[2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "Input: a\nOutput:",
        "Input: a\nOutput: b\nInput: c\nOutput: d",
        "Input: a\nOutput: b\nWhat is this?",
    ],
)
def test_other_prompts_are_errors(text):
    model = NearestContext()
    (answer,) = model.answer([Prompt("", text)], LIMITS)
    assert answer.text == ""
    assert "another form" in answer.error
    with pytest.raises(ValueError, match="another form"):
        model.log_likelihoods([Prompt("", text)], [["x"]])


def test_the_majority_mends_what_few_examples_have_wrong():
    told = ["one two three", "one nine three four", "seven two three"]
    model = open_language_model("majority-context")
    asked = prompt("zero", *((words, words) for words in told))
    assert [answer.text for answer in model.answer([asked], LIMITS)] == ["one two three four"]
    assert identify_language_model("majority-context") == (model.name, model.revision)
