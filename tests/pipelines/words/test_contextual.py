"""What a model makes of each word: hidden states of its layers."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from pipelines.words.choice import WordFilter, choose_words
from pipelines.words.huggingface import HuggingFaceFolder
from pipelines.words.sources import SourceFlags
from pipelines.words.sources import read_language_model as read_source
from pipelines.words.tokens import RowsError
from tests.tiny_models import save_bert


def read_language_model(llm, **flags):
    return read_source(SourceFlags(llm=llm, **flags), "output")


@pytest.fixture
def bert(tmp_path):
    return save_bert(tmp_path / "bert")


def test_contextual_rows_are_the_models_last_hidden_states(bert):
    model = read_language_model(str(bert), embeddings_from="contextual")
    words = choose_words(model, WordFilter(whole=True, max_words=20, keep_outliers=True))
    encoder, tokenizer = AutoModel.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    for row in (0, 7, 19):
        encoded = tokenizer(words.words[row], return_tensors="pt")
        assert encoded["input_ids"].shape == (1, 3), "one token between two of its own"
        with torch.no_grad():
            expected = encoder(**encoded).last_hidden_state[0, 1]
        assert (words.rows[row] - expected).abs().max() < 1e-5
    assert "20 words to run" in model.embeddings.estimate(words.words)
    (bert / "model.safetensors").unlink()
    with pytest.raises(RowsError, match="no model that transformers can run"):
        choose_words(model, WordFilter())


def test_the_state_of_any_layer_can_be_taken_and_text_can_stand_before_the_word(bert):
    encoder, tokenizer = AutoModel.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    ids = [tokenizer.convert_tokens_to_ids(word) for word in ("cat", "queen")]
    made = {}
    for layer in ("layer:0", "layer:1", "layer:2", "contextual"):
        for before in ("", "photo of a"):
            rows = read_language_model(str(bert), embeddings_from=layer, embeddings_before=before).embeddings
            made[layer, before] = rows.rows(("cat", "queen"), ids)
            state = "last hidden state" if layer == "contextual" else f"hidden state of layer {layer[-1]}"
            assert rows.source == f"{state} of each word {'after ' + repr(before) if before else 'alone'}"
    for before in ("", "photo of a"):
        for row, word in enumerate(("cat", "queen")):
            with torch.no_grad():
                states = encoder(**tokenizer(f"{before} {word}", return_tensors="pt"), output_hidden_states=True)
            for layer, state in enumerate(states.hidden_states):
                assert (made[f"layer:{layer}", before][row] - state[0, -2]).abs().max() < 1e-5
        assert torch.equal(made["layer:2", before], made["contextual", before])
    with pytest.raises(ValueError, match="--embeddings-from layer:3: the model has layers 0 to 2"):
        read_language_model(str(bert), embeddings_from="layer:3")
    (bert / "config.json").write_text("{")
    with pytest.raises(ValueError, match="no configuration that transformers can read"):
        HuggingFaceFolder(str(bert)).rows("layer:1")


def test_a_model_is_loaded_once_for_all_words_and_freed(bert):
    model = read_language_model(str(bert), embeddings_from="layer:1")
    loads, load = [], model.embeddings.load
    model.embeddings.load = lambda: loads.append(1) or load()
    model.embeddings.rows(["a"], [40])
    model.embeddings.rows(["b"], [41])
    choose_words(model, WordFilter(max_words=9))
    assert (len(loads), "_loaded" in vars(model.embeddings)) == (1, False)
    model.embeddings.rows(["a"], [40])
    assert len(loads) == 2


def test_states_that_say_nothing_of_their_words_are_warned_of(bert, caplog):
    model = read_language_model(str(bert), embeddings_from="layer:2")
    choose_words(model, WordFilter(max_words=9))
    assert "nearly one direction" not in caplog.text
    tensors = load_file(bert / "model.safetensors")
    name = next(key for key in tensors if key.endswith("1.output.LayerNorm.bias"))
    save_file(tensors | {name: tensors[name] + 99}, bert / "model.safetensors", {"format": "pt"})
    choose_words(model, WordFilter(max_words=9))
    assert "hidden state of layer 2 of each word alone: all words have nearly one direction" in caplog.text
    assert "--embeddings-before may help" in caplog.text
