"""What closed answers can be, token by token."""

import itertools
import random

import pytest

from spae.incontext import AnswerLimits, Prompt, TransformersModel
from spae.incontext.generation import AllowedWords, WordTokens
from tests.tiny_causal import NUMBERS, SIZES, save_causal

ENDS = (1,)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from transformers import LlamaConfig

    return TransformersModel(save_causal(tmp_path_factory.mktemp("llama"), LlamaConfig(**SIZES)))


class Letters:
    """One token a letter."""

    def text(self, ids):
        return "".join(map(chr, ids))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_mask_leaves_exactly_the_sequences_of_words(count):
    words = ("a", "ab", "b", "ba")
    allowed = AllowedWords(WordTokens(frozenset(tuple(map(ord, word)) for word in words)), count, Letters())
    whole = {"".join(some) for some in itertools.product(words, repeat=count)}
    found, begun = set(), [()]
    while begun:
        ids = begun.pop()
        if allowed.decided(ids) is not None:
            assert allowed.decided(ids) in whole
            found.add(ids)
            continue
        for token in allowed.mask(ids, ENDS):
            found.add(ids) if token in ENDS else begun.append((*ids, token))
    assert {allowed.text(ids) for ids in found} == whole


def test_what_is_no_word_has_no_mask():
    allowed = AllowedWords(WordTokens(frozenset({(5,)})), 1, Letters())
    with pytest.raises(ValueError, match="mask would be empty"):
        allowed.mask([6], ENDS)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_so_many_words_come_out_of_a_real_model_whatever_is_asked_beside(model, temperature):
    limits = AnswerLimits(most_tokens=60, allowed=tuple(NUMBERS), count=5, temperature=temperature)
    prompts = [Prompt("one two three\nA:", ""), Prompt("", "nine\nA:"), Prompt("one two three\nA:", "", 1)]
    answers = model.answer(prompts, limits)
    for answer in answers:
        assert not answer.error
        assert len(answer.text.split()) == 5
        assert set(answer.text.split()) <= set(NUMBERS)
    assert [one.text for one in model.answer(prompts[::-1], limits)] == [one.text for one in answers][::-1]
    assert (answers[0].text == answers[2].text) == (not temperature), "draws of one prompt differ"


def test_the_likelihood_is_that_of_the_text(model):
    prompts = [Prompt("one two\nA:", ""), Prompt("", "seven six\nA:")]
    limits = AnswerLimits(most_tokens=40, stop=(), allowed=tuple(NUMBERS), count=3)
    answers = model.answer(prompts, limits)
    expected = model.log_likelihoods(prompts, [[f" {answer.text}"] for answer in answers])
    assert [[answer.log_likelihood] for answer in answers] == [pytest.approx(row, abs=1e-3) for row in expected]


def test_words_of_one_vocabulary_do_not_leak_into_anothers_answers(model):
    random.seed(0)
    for words in (("one", "two"), ("three", "four"), ("one", "two")):
        (answer,) = model.answer([Prompt("", "A:")], AnswerLimits(most_tokens=30, allowed=words, count=4))
        assert set(answer.text.split()) <= set(words)


def test_a_count_below_one_is_refused():
    with pytest.raises(ValueError, match="count=0"):
        AnswerLimits(most_tokens=1, count=0)
