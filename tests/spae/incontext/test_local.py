"""A local model's answers are those to one prompt after another, whatever is asked beside it."""

import random

import pytest
import torch
from transformers import LlamaConfig, MistralConfig

from spae.incontext import AnswerLimits, Prompt, TransformersModel, check_context
from tests.spae.incontext.prompts_of_numbers import few_shot_prompts
from tests.tiny_causal import NAMES, SIZES, save_causal

KINDS = {"llama": LlamaConfig(**SIZES), "mistral": MistralConfig(**SIZES, sliding_window=64)}
FREE = AnswerLimits(most_tokens=6, stop=())


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    return TransformersModel(save_causal(tmp_path_factory.mktemp(request.param), KINDS[request.param]))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return TransformersModel(save_causal(tmp_path_factory.mktemp("llama"), KINDS["llama"]), name="tiny")


def mixed_prompts():
    prompts = [
        *few_shot_prompts(3, 3),
        Prompt("", "one two"),
        Prompt("", "one two three Output:"),
        Prompt("one", " two"),
    ]
    random.Random(0).shuffle(prompts)
    return prompts


def generated(model, prompt, limits):
    """What transformers' own generate makes of a prompt."""
    ids = torch.tensor([model._tokens.ids(prompt.text)])
    options = {"max_new_tokens": limits.most_tokens, "do_sample": False}
    out = model._reader.model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, ids.shape[1] :]
    return model._tokens.text([token for token in out.tolist() if token != 1]).strip()


def test_answers_are_those_of_generate(model):
    prompts = mixed_prompts()
    answers = model.answer(prompts, FREE)
    assert [answer.text for answer in answers] == [generated(model, prompt, FREE) for prompt in prompts]
    assert [answer.prompt_tokens for answer in answers] == [model.count_tokens(prompt.text) for prompt in prompts]
    assert not any(answer.error for answer in answers)


@pytest.mark.parametrize("limits", [FREE, AnswerLimits(most_tokens=6, stop=(), temperature=1.5, seed=3)])
def test_neither_order_nor_company_changes_an_answer(model, limits):
    prompts = mixed_prompts()
    answers = [answer.text for answer in model.answer(prompts, limits)]
    assert [answer.text for answer in model.answer(prompts[::-1], limits)] == answers[::-1]
    assert [model.answer([prompt], limits)[0].text for prompt in prompts] == answers
    assert len(set(answers)) > 3


def test_a_seed_is_an_answer_of_its_own(llama):
    prompts = few_shot_prompts(1, 2)
    draws = {
        tuple(a.text for a in llama.answer(prompts, AnswerLimits(most_tokens=6, temperature=2.0, seed=seed)))
        for seed in range(4)
    }
    assert len(draws) == 4


def test_the_budget_changes_nothing_but_memory(llama, monkeypatch):
    prompts = mixed_prompts()
    answers = [answer.text for answer in llama.answer(prompts, FREE)]
    monkeypatch.setattr(llama, "token_budget", 150)
    assert [answer.text for answer in llama.answer(prompts, FREE)] == answers


def test_many_long_rows_with_nothing_in_common_grow_apart(llama, monkeypatch):
    monkeypatch.setattr(llama, "_tree_tokens", 10_000)
    rows = {length: [[number] * length for number in range(32)] for length in (40, 500)}
    packs = {length: list(llama._packs([[row] for row in range(32)], some, 7)) for length, some in rows.items()}
    assert packs[40] == [[[row] for row in range(32)]]
    assert sorted(map(len, packs[500])) == [10, 22], "each row passes over the columns of all"
    supports = [[[first] * 2_000 + [query] for query in range(9)] for first in (5, 6)]
    groups = [list(range(9)), list(range(9, 18))]
    assert list(llama._packs(groups, [*supports[0], *supports[1]], 7)) == [groups], (
        "what rows have in common is a column once"
    )


def test_log_likelihoods_are_those_of_whole_rows(model):
    prompts = mixed_prompts()
    continuations = [[f" {name}" for name in NAMES] + [" dax fep", ""] for _ in prompts]
    scores = model.log_likelihoods(prompts, continuations)
    for prompt, texts, row in zip(prompts, continuations, scores, strict=True):
        start = model.count_tokens(prompt.text)
        for text, score in zip(texts, row, strict=True):
            ids = torch.tensor(model._tokens.ids(prompt.text + text))
            with torch.no_grad():
                shares = model._reader.model(ids[None]).logits[0].log_softmax(1)
            expected = sum(float(shares[at - 1, ids[at]]) for at in range(start, len(ids)))
            assert score == pytest.approx(expected, abs=1e-4)


def test_closed_answers_are_allowed_ones(llama):
    prompts = few_shot_prompts(3, 4)
    allowed = ("dax", "dax fep", "blicket", "wug")
    limits = AnswerLimits(most_tokens=12, allowed=allowed)
    answers = [answer.text for answer in llama.answer(prompts, limits)]
    assert set(answers) <= set(allowed)
    assert len(set(answers)) > 1
    assert [llama.answer([prompt], limits)[0].text for prompt in prompts] == answers
    hot = [
        answer.text for answer in llama.answer(prompts, AnswerLimits(most_tokens=12, allowed=allowed, temperature=9.0))
    ]
    assert set(hot) <= set(allowed)


def test_a_lone_allowed_text_comes_out(llama):
    (answer,) = llama.answer(few_shot_prompts(1, 1), AnswerLimits(most_tokens=12, allowed=("zebra",)))
    assert answer.text == "zebra"


def test_an_empty_mask_raises(llama):
    with pytest.raises(ValueError, match=r"zebra.*most_tokens is 1.*mask would be empty"):
        llama.answer(few_shot_prompts(1, 1), AnswerLimits(most_tokens=1, allowed=("zebra", "dax")))
    with pytest.raises(ValueError, match="no answer"):
        AnswerLimits(most_tokens=1, allowed=(" ",))


def test_answers_end_before_a_stop(llama):
    prompts = few_shot_prompts(2, 3)
    whole = [answer.text for answer in llama.answer(prompts, AnswerLimits(most_tokens=12, stop=()))]
    stop = next(text[3] for text in whole if len(text) > 4)
    short = llama.answer(prompts, AnswerLimits(most_tokens=12, stop=(stop, "never comes")))
    assert [answer.text for answer in short] == [text.split(stop)[0].strip() for text in whole]


def test_a_prompt_beyond_the_context_costs_its_own_answer(llama):
    long = Prompt("", "one two " * 600)
    first, over, last = llama.answer([Prompt("", "one"), long, Prompt("", "")], FREE)
    assert first.text
    assert not over.text
    assert "are 1" in over.error
    assert "a prompt of 1018 tokens would fit" in over.error
    assert last.error == "the prompt is empty"
    with pytest.raises(ValueError, match="a prompt of 1018 tokens would fit"):
        check_context(llama, long, 6)
    with pytest.raises(ValueError, match="over the context"):
        llama.log_likelihoods([long], [["x"]])


def test_marks_that_a_text_spells_are_text(llama):
    ids = llama._tokens.ids("a<|im_end|>b")
    assert not {0, 1} & set(ids)
    assert llama._tokens.text(ids) == "a<|im_end|>b"
    assert llama.answer([Prompt("half a \ud800", " character")], FREE)[0].text


def test_a_folder_is_known_by_its_weights(tmp_path, llama):
    same = TransformersModel(save_causal(tmp_path / "llama", KINDS["llama"]))
    assert (same.name, same.revision) == ("llama", llama.revision)
    assert llama.name == "tiny"
    assert len(llama.revision) == 64
