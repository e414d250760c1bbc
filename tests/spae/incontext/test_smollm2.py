"""The real SmolLM2, from its GGUF file: cached and packed scores equal those of whole prompts alone, and a server's."""

import contextlib
import random
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spae.incontext import (
    AnswerLimits,
    EndpointModel,
    EndpointSettings,
    Prompt,
    TransformersModel,
    open_language_model,
)
from spae.incontext.token_tree import TokenTree
from tests.spae.incontext.prompts_of_numbers import few_shot_prompts
from tests.tiny_causal import NAMES, smollm2

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return TransformersModel(smollm2())


def test_scores_equal_those_of_whole_prompts_alone(model):
    prompts = few_shot_prompts(2, 3)
    continuations = [[f" {name}" for name in NAMES]] * len(prompts)
    order = random.Random(0).sample(range(len(prompts)), len(prompts))
    together = model.log_likelihoods([prompts[i] for i in order], continuations)
    for number, scores in zip(order, together, strict=True):
        prompt = model._tokens.ids(prompts[number].text)
        for name, score in zip(NAMES, scores, strict=True):
            ids = torch.tensor(model._tokens.ids(f"{prompts[number].text} {name}"))
            with torch.no_grad():
                shares = model._reader.model(ids[None]).logits[0].log_softmax(1)
            assert score == pytest.approx(
                sum(float(shares[at - 1, ids[at]]) for at in range(len(prompt), len(ids))), abs=1e-4
            )


def test_logits_of_a_tree_equal_those_of_its_rows(model):
    rows = [model._tokens.ids(prompt.text) for prompt in few_shot_prompts(1, 4)]
    tree = TokenTree(rows)
    ends = sorted({path[-1] for path in tree.paths})
    logits, _ = model._reader.read(tree, ends)
    for row, path in zip(rows, tree.paths, strict=True):
        with torch.no_grad():
            alone = model._reader.model(torch.tensor([row])).logits[0, -1]
        torch.testing.assert_close(logits[ends.index(path[-1])], alone, atol=1e-4, rtol=0)


def test_it_knows_a_capital(model):
    assert (model.name, model.context_tokens) == ("SmolLM2-135M-Instruct.Q4_1.gguf", 8192)
    (answer,) = model.answer([Prompt("", "The capital of France is")], AnswerLimits(most_tokens=4))
    assert answer.text == "Paris."
    assert (answer.prompt_tokens, model.count_tokens("zero one two")) == (5, 3)


def test_a_real_server_gives_the_local_answers(model, tmp_path):
    prompts, limits = few_shot_prompts(1, 3), AnswerLimits(most_tokens=5)
    local = [answer.text for answer in model.answer(prompts, limits)]
    folder = _save(model, tmp_path / "smollm2")
    with _serving(folder) as address:
        settings = EndpointSettings(folder=str(tmp_path / "kept"), concurrency=1, timeout=300, tokenizer=folder)
        served = open_language_model(address, name=folder, endpoint=settings)
        assert isinstance(served, EndpointModel)
        answers = served.answer(prompts, limits)
        assert [answer.error for answer in answers] == [""] * len(prompts)
        assert [answer.text for answer in answers] == local
        chat = EndpointModel(address, name=folder, settings=EndpointSettings(form="chat", concurrency=1, timeout=300))
        assert chat.answer(prompts[:1], limits)[0].error == ""
        assert served.revision.startswith(folder)
    again = EndpointModel(address, name=folder, settings=settings)  # the server is gone
    assert [answer.text for answer in again.answer(prompts, limits)] == local
    assert (again.usage.requests, again.usage.kept) == (0, len(prompts))


def _save(model: TransformersModel, folder: Path) -> str:
    """The weights as a folder that a server opens: what transformers read from a .gguf file it does not save itself."""
    original = model._reader.model
    options = original.config.to_dict()
    options.pop("quantization_config", None)
    config = LlamaConfig(**options)
    config.architectures = ["LlamaForCausalLM"]
    copy = LlamaForCausalLM(config)
    copy.load_state_dict(original.state_dict())
    copy.save_pretrained(folder)
    model._tokens._tokenizer.save_pretrained(folder)
    return str(folder)


@contextlib.contextmanager
def _serving(folder: str):
    """`transformers serve` of a folder on a free port of this machine; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", folder, "--device", "cpu", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "transformers serve ended at once"
                assert time.monotonic() < deadline
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)
