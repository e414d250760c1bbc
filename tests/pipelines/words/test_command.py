"""The whole command on each kind of source of words and embeddings."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pipelines.vocabulary import main
from pipelines.words.sources import SourceFlags, read_language_model
from spae.vocabulary import Vocabulary
from spae.vocabulary.round_trip import split_text
from tests.embeddings_server import serving, vector
from tests.tiny_gguf import save_gguf
from tests.tiny_models import hugging_face_clip, save_bert

ROOT = Path(__file__).parents[3]
SENTENCES = ["the lion and the queen saw zero one two three lions in the picture of a king"] * 20


def save_words(folder, words):
    folder.mkdir(exist_ok=True)
    (folder / "words.txt").write_text("".join(f"{word}\n" for word in words))
    return str(folder / "words.txt")


def save_rows(path, count):
    rows = np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)
    np.save(path, rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return str(path)


def save_tiktoken(folder):
    tokens = [bytes([byte]) for byte in range(256)] + [b" lion", b" queen", b" the", b"lion"]
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens)]
    (folder / "tiny.tiktoken").write_text("".join(lines))
    settings = {"pattern": r" ?\w+| ?[^\s\w]+|\s+", "special_tokens": {"<|end|>": len(tokens)}}
    (folder / "tiny.json").write_text(json.dumps(settings))
    flags = ["--tiktoken-settings", str(folder / "tiny.json"), "--vectors", save_rows(folder / "rows.npy", 261)]
    return [str(folder / "tiny.tiktoken"), *flags]


def save_sentencepiece(folder):
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=stream, vocab_size=60, hard_vocab_limit=False, minloglevel=2
    )
    (folder / "tiny.model").write_bytes(stream.getvalue())
    size = sentencepiece.SentencePieceProcessor(model_proto=stream.getvalue()).get_piece_size()
    return [str(folder / "tiny.model"), "--vectors", save_rows(folder / "rows.npy", size)]


def save_source(kind, folder):
    """The value of --llm and more flags."""
    if kind == "hugging face":
        return [str(save_bert(folder / "bert"))]
    if kind == "contextual":
        return [str(save_bert(folder / "bert")), "--embeddings-from", "contextual", "--keep-outliers"]
    if kind == "gguf":
        save_gguf(folder / "tiny.gguf")
        return [str(folder / "tiny.gguf")]
    if kind == "tiktoken":
        return save_tiktoken(folder)
    if kind == "sentencepiece":
        return save_sentencepiece(folder)
    return [save_words(folder, ["lion", "queen", "lion", "king"]), "--vectors", save_rows(folder / "rows.npy", 4)]


KINDS = ("hugging face", "contextual", "gguf", "tiktoken", "sentencepiece", "list")


@pytest.mark.parametrize("kind", KINDS)
def test_word_id_and_row_belong_together_for_every_source(kind, tmp_path):
    source = save_source(kind, tmp_path)
    assert main(["--llm", *source, "--output", str(tmp_path / "out"), "--table", "raw"]) == 0
    vocabulary = Vocabulary.load(str(tmp_path / "out"))
    flags = SourceFlags(
        llm=source[0],
        vectors=str(tmp_path / "rows.npy") if "--vectors" in source else None,
        embeddings_from="contextual" if kind == "contextual" else "input",
        tiktoken_settings=str(tmp_path / "tiny.json") if kind == "tiktoken" else None,
    )
    model, ids = read_language_model(flags, ""), vocabulary.llm_ids.tolist()
    assert [model.tokens.texts[token].strip() for token in ids] == list(vocabulary.word_list)
    expected = model.embeddings.rows(vocabulary.word_list, ids)
    torch.testing.assert_close(vocabulary.embeddings, expected, atol=1e-6, rtol=0)
    assert sum(vocabulary.record.counts.values()) == model.size
    assert len(set(ids)) == len(ids)
    round_trip = vocabulary.record.round_trip
    assert (round_trip is None) == (kind == "list")
    if round_trip is not None:
        survivors = [word for row, word in enumerate(vocabulary.word_list) if row not in round_trip.lost]
        assert len(survivors) == round_trip.survivors
        assert split_text(round_trip.join(survivors), model.tokens.split_words, round_trip.separator) == survivors
        assert {"lion"} <= set(survivors) or "bert" in source[0]


@pytest.fixture
def server():
    with serving() as state:
        yield state


WORDS = [f"word{number}" for number in range(30)]


def endpoint_flags(server, folder, *more):
    flags = ("--embeddings-endpoint", server.url, "--embeddings-model", "ada", "--embeddings-batch", "5")
    return ["--llm", save_words(folder, WORDS), *flags, "--output", str(folder / "out"), "--table", "raw", *more]


def test_an_endpoint_is_paid_once_and_not_at_all_in_a_dry_run(server, tmp_path, caplog):
    flags = endpoint_flags(server, tmp_path, "--max-words", "12", "--keep-outliers")
    assert main([*flags, "--dry-run", "--embeddings-price", "1000000"]) == 0
    assert "12 words to embed by ada by 127.0.0.1" in caplog.text
    assert "tokens in 3 requests, 24.0000 at --embeddings-price" in caplog.text
    assert server.requests == []
    assert not (tmp_path / "out").exists()
    server.faults[:] = ["", "400"]
    assert main(flags) == 1
    assert "refused the request with status 400" in caplog.text
    assert "Traceback" not in caplog.text
    assert main(flags) == 0
    assert len(server.requests) == 2 + 2
    vocabulary = Vocabulary.load(str(tmp_path / "out"))
    assert vocabulary.embeddings.tolist() == [vector(word) for word in WORDS[:12]]
    assert vocabulary.record.embeddings_source.startswith("ada by 127.0.0.1")
    assert vocabulary.record.llm_revision.startswith("sha256:")
    assert main(flags) == 0
    assert len(server.requests) == 4, "a finished vocabulary asks for nothing"
    assert not (tmp_path / "out" / "parts").exists()


def test_a_pilot_pays_for_its_words_alone(server, tmp_path, caplog):
    flags = endpoint_flags(server, tmp_path, "--keep-outliers")
    assert main([*flags, "--limit", "7", "--dry-run"]) == 0
    assert "7 words to embed by ada" in caplog.text
    assert main([*flags, "--limit", "7"]) == 0
    assert "pilot of 7 of 30 words" in caplog.text
    assert not (tmp_path / "out" / "vocabulary.json").exists()
    assert [word for request in server.requests for word in request["input"]] == WORDS[:7]
    server.requests.clear()
    assert main([*flags, "--limit", "30"]) == 0
    assert [word for request in server.requests for word in request["input"]] == WORDS[7:]
    assert Vocabulary.load(str(tmp_path / "out")).embeddings.tolist() == [vector(word) for word in WORDS]


@pytest.mark.slow
def test_a_killed_run_pays_only_for_the_rest(server, tmp_path):
    server.faults[:] = ["", "", "late", "late", "late", "late"]
    line = [sys.executable, "-m", "pipelines.vocabulary", *endpoint_flags(server, tmp_path)]
    process = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while process.poll() is None and len(list((tmp_path / "out").glob("parts/*/*-5.safetensors"))) < 2:
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    kept = len(list((tmp_path / "out").glob("parts/*/*-5.safetensors")))
    server.faults.clear()
    server.requests.clear()
    assert subprocess.run(line, cwd=ROOT, check=False).returncode == 0
    assert len(server.requests) == 6 - kept < 6
    assert Vocabulary.load(str(tmp_path / "out")).embeddings.tolist() == [vector(word) for word in WORDS]


def test_embeddings_by_reference_train_and_publish_no_row(tmp_path, monkeypatch):
    monkeypatch.setenv("SPAE_EMBEDDINGS", str(tmp_path / "own"))
    bert, output = str(save_bert(tmp_path / "bert")), str(tmp_path / "out")
    flags = ["--llm", bert, "--clip", hugging_face_clip(tmp_path / "clip", tmp_path / "bert"), "--output", output]
    assert main([*flags, "--embeddings", "reference", "--license", "private", "--max-words", "9"]) == 0
    assert not (tmp_path / "out" / "embeddings.safetensors").exists()
    kept = Vocabulary.load(output)
    monkeypatch.setenv("SPAE_EMBEDDINGS", str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match="its embeddings are not stored but referred to"):
        Vocabulary.load(output)
    found = Vocabulary.load(output, embeddings=bert)
    assert torch.equal(found.embeddings, kept.embeddings)
    assert main([*flags, "--max-words", "9"]) == 2, "with stored rows it is another vocabulary"
    assert main([*flags, "--max-words", "9", "--replace"]) == 0
    assert Vocabulary.load(output).words_fingerprint == found.words_fingerprint


def test_denied_and_ranked_words_are_in_the_record(tmp_path):
    words = save_words(tmp_path, ["lion", "queen", "king", "cat"])
    rows, output = save_rows(tmp_path / "rows.npy", 4), tmp_path / "out"
    (tmp_path / "counts.tsv").write_text("king\t5\nlion\t3\ncat\t9\n")
    (tmp_path / "deny.txt").write_text("CAT\n")
    flags = ["--llm", words, "--vectors", rows, "--output", str(output), "--keep-outliers"]
    ranked = ["--frequencies", str(tmp_path / "counts.tsv"), "--deny", str(tmp_path / "deny.txt"), "--max-words", "2"]
    assert main([*flags, *ranked]) == 0
    vocabulary = Vocabulary.load(str(output))
    assert vocabulary.word_list == ("king", "lion")
    assert vocabulary.llm_ids.tolist() == [2, 0]
    assert vocabulary.record.counts == {"kept": 2, "denied": 1, "beyond max_words": 1}
    assert main([*flags, *ranked]) == 0
    assert main(flags) == 2, "another choice"


def test_rows_of_a_model_that_are_not_finite_are_one_clear_error(tmp_path, caplog):
    bert = save_bert(tmp_path / "bert")
    tensors = load_file(bert / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][20, 3] = torch.nan
    save_file(tensors, bert / "model.safetensors", {"format": "pt"})
    flags = ["--llm", str(bert), "--embeddings-from", "contextual", "--output", str(tmp_path / "out")]
    assert main(flags) == 1
    assert "the row of token 20" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_tokenizer_without_an_unknown_token_loses_words_and_no_run(tmp_path):
    pieces = [("▁lion", -1.0), ("▁queen", -2.0), ("▁cat", -4.0), *((letter, -9.0) for letter in "▁lionquecats")]
    pieces = list(dict(pieces).items())
    tokenizer = Tokenizer(models.Unigram(pieces))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path / "llm")
    rows = save_rows(tmp_path / "rows.npy", len(pieces))
    flags = ["--llm", str(tmp_path / "llm"), "--vectors", rows, "--output", str(tmp_path / "out")]
    assert main(flags) == 0
    vocabulary = Vocabulary.load(str(tmp_path / "out"))
    found = vocabulary.record.round_trip
    assert {"lion", "queen", "cat"} <= {w for row, w in enumerate(vocabulary.word_list) if row not in found.lost}


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--project-width", "9", "--vectors", "good.npy"], "--project-width: width=9 must be between 1 and 3"),
        (["--vectors", "/no/such.npy"], "no table of embeddings that can be read"),
        (["--vectors", "rows.npy"], "tokenizer and weights are of different models"),
        (["--vectors", "nan.npy"], "the row of token 1 'queen' is not finite"),
        (["--deny", "/no/such/file", "--vectors", "good.npy"], "--deny /no/such/file cannot be read"),
        (["--frequencies", "words.txt", "--vectors", "good.npy"], "is no count"),
        ([], "without embeddings; give --vectors"),
    ],
)
def test_unusable_files_are_one_clear_error(tmp_path, monkeypatch, caplog, flags, reason):
    monkeypatch.chdir(tmp_path)
    words = save_words(tmp_path, ["lion", "queen", "king", "cat"])
    save_rows(tmp_path / "good.npy", 4)
    save_rows(tmp_path / "rows.npy", 3)
    rows = np.ones((4, 8), np.float32)
    rows[1, 2] = np.nan
    np.save(tmp_path / "nan.npy", rows)
    assert main(["--llm", words, "--output", str(tmp_path / "out"), *flags]) == 2
    assert reason in caplog.text
    assert not (tmp_path / "out").exists()


def test_rows_that_make_no_table_are_one_clear_error(tmp_path, caplog):
    np.save(tmp_path / "rows.npy", np.ones((4, 8), np.float32))
    words = save_words(tmp_path, ["lion", "queen", "king", "cat"])
    assert main(["--llm", words, "--vectors", str(tmp_path / "rows.npy"), "--output", str(tmp_path / "out")]) == 1
    assert "no centred table of rows.npy" in caplog.text
    assert "Traceback" not in caplog.text
