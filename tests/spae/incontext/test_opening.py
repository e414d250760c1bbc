"""One way to open a language model by its place."""

import subprocess
import sys

import pytest
from transformers import LlamaConfig

from spae.incontext import (
    AnswerLimits,
    EndpointModel,
    LanguageModel,
    NearestContext,
    Prompt,
    TransformersModel,
    identify_language_model,
    open_language_model,
    open_token_counter,
)
from tests.tiny_causal import SIZES, save_causal
from tests.tiny_gguf import save_gguf


def test_every_place_opens_its_kind(tmp_path):
    models = {
        NearestContext: open_language_model("nearest-context"),
        EndpointModel: open_language_model("http://127.0.0.1:9/v1", name="m"),
        TransformersModel: open_language_model(save_causal(tmp_path / "tiny", LlamaConfig(**SIZES)), name="short"),
    }
    assert all(isinstance(model, kind) and isinstance(model, LanguageModel) for kind, model in models.items())
    assert [model.name for model in models.values()] == ["nearest-context", "m", "short"]


@pytest.mark.parametrize("place", ["", "no such place", "missing.gguf", "ftp://host/v1", "a/b/c", "../x"])
def test_an_unknown_place_names_the_allowed_forms(place):
    with pytest.raises(ValueError, match=r"nearest-context, majority-context, http\(s\)://HOST/v1 .* FILE\.gguf"):
        open_language_model(place)


def test_a_gguf_file_opens_alone(tmp_path):
    """Whatever lies beside it."""
    save_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "tokenizer.json").write_text("{")
    model = open_language_model(str(tmp_path / "tiny.gguf"))
    assert model.context_tokens == 64
    assert len(model.revision) == 64
    assert model.count_tokens(" zero one") == 2
    (answer,) = model.answer([Prompt("a zero", " one two")], AnswerLimits(most_tokens=3, allowed=("three", "lion")))
    assert answer.text in ("three", "lion")


def test_a_folder_without_a_model_names_the_allowed_forms(tmp_path):
    (tmp_path / "file.gguf").write_bytes(b"GGUF not really")
    for place in (tmp_path, tmp_path / "file.gguf"):
        with pytest.raises(ValueError, match=r"nearest-context"):
            open_language_model(str(place))


def test_a_server_needs_a_name():
    with pytest.raises(ValueError, match="--llm-name"):
        open_language_model("http://127.0.0.1:9/v1")


def test_a_pickle_is_not_opened(tmp_path):
    import torch

    folder = save_causal(tmp_path / "tiny", LlamaConfig(**SIZES))
    (tmp_path / "tiny" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "tiny" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"safetensors"):
        open_language_model(folder)


def test_nearest_context_loads_neither_torch_nor_openai():
    code = (
        "import sys; from spae.incontext import open_language_model; open_language_model('nearest-context'); "
        "print([name for name in ('torch', 'transformers', 'openai') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_name_revision_and_tokens_are_known_without_weights(tmp_path):
    folder = save_causal(tmp_path / "tiny", LlamaConfig(**SIZES))
    for place, name in ((folder, None), (folder, "short"), ("nearest-context", None)):
        opened, counter = open_language_model(place, name=name), open_token_counter(place, name=name)
        assert identify_language_model(place, name=name) == (opened.name, opened.revision)
        assert counter.context_tokens == opened.context_tokens
        assert counter.count_tokens("seven <|im_end|> dax") == opened.count_tokens("seven <|im_end|> dax")
    assert identify_language_model("http://127.0.0.1:9/v1", name="m") == ("m", "")
    for know in (identify_language_model, open_token_counter):
        with pytest.raises(ValueError, match="no language model at"):
            know("/nowhere.gguf")
