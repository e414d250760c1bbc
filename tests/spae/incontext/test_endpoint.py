"""A server's answers: asked once, counted, kept; whatever it does wrong costs the prompt alone."""

import json
import logging
from pathlib import Path

import pytest

from spae.incontext import AnswerLimits, EndpointModel, EndpointSettings, Prompt
from tests.completions_server import serving
from tests.tiny_causal import tokenizer

LIMITS = AnswerLimits(most_tokens=5)
KEY = "sk-very-secret"


@pytest.fixture
def server():
    with serving() as state:
        yield state


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def opened(server, **settings):
    options = {"retries": 0, "timeout": 20.0, "concurrency": 2} | settings
    return EndpointModel(server.url, name="tiny", settings=EndpointSettings(**options))


def prompts(*words):
    return [Prompt("say ", word) for word in words]


@pytest.mark.parametrize("form", ["completions", "chat", "auto"])
def test_answers_are_cut_counted_and_in_order(server, form):
    model = opened(server, form=form, prompt_price=10.0, answer_price=100.0)
    answers = model.answer(prompts("a", "b", "a", "c"), AnswerLimits(most_tokens=5, temperature=0.5, seed=7))
    assert [answer.text for answer in answers] == ["A", "B", "A", "C"]
    assert not any(answer.error for answer in answers)
    assert (answers[0].prompt_tokens, answers[0].answer_tokens) == (11, 3)
    assert len(server.requests) == 3, "the same prompt is asked once"
    asked_form, content = server.requests[0]
    assert asked_form == ("chat" if form == "chat" else "completions")
    wanted = {"model": "tiny", "max_tokens": 5, "temperature": 0.5, "seed": 7, "stop": ["\n"]}
    assert wanted.items() <= content.items()
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert (model.usage.requests, model.usage.prompt_tokens, model.usage.answer_tokens) == (3, 33, 9)
    assert model.usage.cost == pytest.approx((33 * 10 + 9 * 100) / 1e6)
    assert model.revision == "tiny"


def test_chats_are_asked_where_completions_are_not(server):
    server.forms = ("chat",)
    model = opened(server, concurrency=1)
    assert [answer.text for answer in model.answer(prompts("a", "b"), LIMITS)] == ["A", "B"]
    assert [form for form, _ in server.requests] == ["completions", "chat", "chat"]


FAULTS = {
    "500": "InternalServerError",
    "401": "AuthenticationError",
    "302 Location=http://127.0.0.1:9/": "302",
    "hang up": "APIConnectionError",
    "late": "APITimeoutError",
    "drip": "too slowly",
    "cut": "APIConnectionError",
    "flood": "longer than 4194304 bytes",
    "200 Content-Encoding=gzip": "compresses",
    "not json": "Error",
    "other json": "another form",
    "list": "another form",
    "no choice": "another form",
    "deep": "Error",
    "empty": "answered nothing",
    "blank": "answered nothing",
    "null": "answered nothing",
    "number": "answered nothing",
    "long": "longer than the 5 tokens",
    "key": "sent the key back",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_its_prompt_alone(server, fault, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    server.faults = [fault]
    model = opened(
        server,
        form="completions",
        concurrency=1,
        folder=str(tmp_path),
        timeout=0.5 if fault in ("late", "drip") else 20.0,
    )
    bad, good = model.answer(prompts("a", "b"), LIMITS)
    assert (bad.text, good.text, good.error) == ("", "B", "")
    assert FAULTS[fault] in bad.error
    assert len(bad.error) <= 300
    assert (model.usage.failed, model.usage.requests) == (1, 1)
    kept = [file.read_text() for file in tmp_path.iterdir()]
    assert len(kept) == 1
    assert KEY not in "".join([bad.error, caplog.text, *kept])
    assert model.answer(prompts("a"), LIMITS)[0].text == "A", "an error is not kept"


def test_failures_are_tried_again(server):
    server.faults = ["503 Retry-After=0.01", "429 Retry-After-Ms=5", "hang up"]
    assert opened(server, retries=3).answer(prompts("a"), LIMITS)[0].text == "A"
    assert len(server.requests) == 4


def test_nobody_there_is_an_error_an_answer(server):
    model = opened(server)
    model._client = model._client.copy(base_url="http://127.0.0.1:9/v1")
    answers = model.answer(prompts("a", "b", "c"), LIMITS)
    assert [answer.text for answer in answers] == [""] * 3
    assert all("APIConnectionError" in answer.error for answer in answers)


def test_a_server_that_names_another_model(server, tmp_path):
    server.model = "other-7b"
    kept = str(tmp_path)
    recording, refusing = opened(server, folder=kept), opened(server, other_models="refuse", folder=kept)
    assert recording.answer(prompts("a"), LIMITS)[0].text == "A"
    assert recording.revision == "other-7b"
    assert "'other-7b' answered where 'tiny' was asked" in refusing.answer(prompts("a"), LIMITS)[0].error
    server.model = "tiny"
    assert refusing.answer(prompts("a"), LIMITS)[0].text == "A"


def test_a_rerun_asks_nothing_twice(server, tmp_path):
    first = opened(server, folder=str(tmp_path))
    assert first.estimate(prompts("a", "b", "a"), LIMITS).requests == 2
    assert server.requests == []
    answers = first.answer(prompts("a", "b"), LIMITS)
    again = opened(server, folder=str(tmp_path), prompt_price=1.0)
    estimate = again.estimate(prompts("a", "b", "c"), LIMITS)
    assert (estimate.requests, estimate.kept, estimate.prompt_tokens, estimate.answer_tokens) == (1, 2, 2, 5)
    assert not estimate.exact
    assert estimate.cost == pytest.approx(2e-6)
    assert [a.text for a in again.answer(prompts("a", "b"), LIMITS)] == [a.text for a in answers]
    assert len(server.requests) == 2
    assert (again.usage.kept, again.usage.cost) == (2, 0)
    assert again.revision == "tiny"
    other = AnswerLimits(most_tokens=5, seed=1)
    assert again.answer(prompts("a"), other)[0].text == "A"
    assert len(server.requests) == 3, "another seed is another request"


def test_a_spoilt_kept_answer_is_asked_anew(server, tmp_path):
    opened(server, folder=str(tmp_path)).answer(prompts("a"), LIMITS)
    (file,) = Path(tmp_path).iterdir()
    document = json.loads(file.read_text())
    for content in ("{", "[]", json.dumps(document | {"request": {}}), json.dumps(document | {"answer": {"text": 1}})):
        file.write_text(content)
        assert opened(server, folder=str(tmp_path)).answer(prompts("a"), LIMITS)[0].text == "A"
    assert len(server.requests) == 5


def test_requests_at_once_are_bounded(server):
    server.faults = ["slow"] * 12
    words = [f"w{number}" for number in range(12)]
    answers = opened(server, concurrency=3).answer(prompts(*words), LIMITS)
    assert [answer.text for answer in answers] == [word.upper() for word in words]
    assert 1 < server.busiest <= 3


def test_counts_that_a_server_makes_up_are_replaced(server):
    server.faults = ["uncounted"]
    (answer,) = opened(server).answer(prompts("abc"), LIMITS)
    assert (answer.prompt_tokens, answer.answer_tokens) == (3, 1)


def test_half_a_character_can_be_written(server):
    server.faults = ["half"]
    (answer,) = opened(server).answer(prompts("a"), LIMITS)
    assert answer.text == "a?b"


def test_the_context_is_counted_before_anything_is_sent(server):
    model = opened(server, context_tokens=10)
    assert not model.counts_exactly
    long, short = model.answer(prompts("b" * 20, "b"), LIMITS)
    assert "over the context of 10; a prompt of 5 tokens would fit" in long.error
    assert short.text == "B"
    assert len(server.requests) == 1


@pytest.mark.parametrize(("option", "read"), [("allowed_token_ids", lambda ids: ids), ("logit_bias", dict.keys)])
def test_allowed_texts_reach_servers_that_know_of_them(server, tmp_path, option, read):
    tokenizer().save_pretrained(tmp_path)
    model = opened(server, allowed_by=option, tokenizer=str(tmp_path))
    (answer,) = model.answer(prompts("dax"), AnswerLimits(most_tokens=9, allowed=("dax", "wug")))
    assert answer.text == "DAX", "what is not allowed stays as it is"
    ids = [int(token) for token in read(server.requests[0][1][option])]
    pieces = {model._tokens.text([token]).strip() for token in ids}
    assert {"dax", "wug"} <= pieces
    assert model.counts_exactly


def test_settings_that_cannot_be_are_named(server):
    with pytest.raises(ValueError, match="needs the server's tokenizer"):
        EndpointSettings(allowed_by="logit_bias")
    with pytest.raises(ValueError, match="concurrency=0 must be above 0"):
        EndpointSettings(concurrency=0)
    for address in ("ftp://host/v1", "http://user:pass@host/v1", "http://host/v1?key=1", "http:///v1"):
        with pytest.raises(ValueError, match="without user, password and query") as caught:
            EndpointModel(address, name="tiny")
        assert "pass@" not in str(caught.value)
    with pytest.raises(ValueError, match="no likelihood"):
        opened(server).log_likelihoods(prompts("a"), [["b"]])
