import base64
import io
import json
import uuid

import numpy as np
import pytest
import sentencepiece
import tiktoken
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import bytes_to_unicode

from pipelines.words.choice import WordFilter, choose_words
from pipelines.words.files import counts_sha256, read_frequencies, read_sentencepiece, read_tiktoken, read_word_list
from pipelines.words.sources import SourceFlags, read_language_model
from spae.data.publishing import publish

PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TEXT = ["the lion and the löwe saw zero one two three lions, the queen's 42 pictures"] * 20


@pytest.fixture(scope="module")
def ranks():
    """Mergeable ranks of a byte-level BPE that was trained here."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet))
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    return {bytes(byte_of[letter] for letter in token): rank for token, rank in tokenizer.get_vocab().items()}


@pytest.fixture
def tiktoken_files(ranks, tmp_path):
    lines = [
        f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in sorted(ranks.items(), key=lambda x: x[1])
    ]
    (tmp_path / "tiny.tiktoken").write_text("".join(lines))
    settings = {"pattern": PATTERN, "special_tokens": {"<|endoftext|>": len(ranks) + 3}}
    (tmp_path / "tiny.json").write_text(json.dumps(settings))
    return str(tmp_path / "tiny.tiktoken"), str(tmp_path / "tiny.json")


def test_a_tiktoken_file_gives_the_tokens_that_tiktoken_has(ranks, tiktoken_files):
    tokens = read_tiktoken(*tiktoken_files)
    encoding = tiktoken.Encoding("tiny", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    assert tokens.split(TEXT[0]) == encoding.encode(TEXT[0])
    for token, text in tokens.texts.items():
        assert encoding.decode_single_token_bytes(token) == text.encode()
    assert list(tokens.texts) == sorted(tokens.texts), "ranks are the order of merges"
    assert tokens.reasons[len(ranks) + 3] == "special"
    assert sorted([*tokens.texts, *tokens.reasons]) == [*range(len(ranks)), len(ranks) + 3]
    assert sum(reason == "invalid UTF-8" for reason in tokens.reasons.values()) >= 128
    assert tokens.name == "tiny"
    assert {" lion", " löwe", "!"} <= set(tokens.texts.values())
    assert tokens.split_words(" the lion") == ["the", "lion"]


def test_without_a_pattern_or_every_byte_there_are_words_and_no_tokenizer(tiktoken_files, ranks, tmp_path):
    ranks_file, settings = tiktoken_files
    assert read_tiktoken(ranks_file).split is None
    few = tmp_path / "few.tiktoken"
    few.write_text("IHRoZQ== 0\nIQ== 5\n")
    tokens = read_tiktoken(str(few), settings)
    assert tokens.split is None
    assert tokens.texts == {0: " the", 5: "!"}


@pytest.mark.parametrize(
    ("content", "settings", "reason"),
    [
        ("IQ== 0 3\n", None, "line 1 is not a token in base64 and its rank"),
        ("IQ== 0\n!!! 1\n", None, "line 2 is not a token"),
        ("IQ== 0\nIg== 0\n", None, "each once"),
        ("IQ== 0\nIQ== 1\n", None, "each once"),
        ("IQ== -1\n", None, "from 0 on"),
        ("", None, "each once"),
        ("IQ== 0\n", "{", "cannot be used"),
        ("IQ== 0\n", '{"patern": ""}', "may hold pattern and special_tokens"),
        ("IQ== 0\n", '{"special_tokens": {"<|end|>": "1"}}', "may hold"),
        ("IQ== 0\n", '{"special_tokens": {"<|end|>": 0}}', "special token id 0 is a rank"),
    ],
)
def test_files_that_are_no_encoding_are_named(tmp_path, content, settings, reason):
    (tmp_path / "x.tiktoken").write_text(content)
    (tmp_path / "x.json").write_text(settings or "")
    with pytest.raises(ValueError, match=reason):
        read_tiktoken(str(tmp_path / "x.tiktoken"), str(tmp_path / "x.json") if settings else None)


def test_a_pattern_that_is_none_is_named(tiktoken_files, tmp_path):
    (tmp_path / "bad.json").write_text(json.dumps({"pattern": "("}))
    with pytest.raises(ValueError, match="no encoding with this pattern"):
        read_tiktoken(tiktoken_files[0], str(tmp_path / "bad.json"))


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_sentencepiece_file_gives_the_pieces_that_sentencepiece_has(tmp_path, kind):
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_writer=stream,
        vocab_size=310,
        model_type=kind,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = tmp_path / "tiny.model"
    path.write_bytes(stream.getvalue())
    tokens = read_sentencepiece(str(path))
    model = sentencepiece.SentencePieceProcessor(model_proto=stream.getvalue())
    assert sorted([*tokens.texts, *tokens.reasons]) == list(range(model.get_piece_size()))
    scores = [model.get_score(token) for token in tokens.texts]
    assert scores == sorted(scores, reverse=True)
    assert sum(reason == "special" for reason in tokens.reasons.values()) == 3
    assert sum(reason == "invalid UTF-8" for reason in tokens.reasons.values()) == 128
    words = tokens.split_words("the lion and the löwe")
    assert "".join(words) == "thelionandthelöwe"
    assert "lion" in words
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match="is no SentencePiece model"):
        read_sentencepiece(str(path))


def test_a_list_is_ranked_by_its_lines_or_its_counts(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("\ufefflion\r\nlöwe\r\n\r\nNew York\r\nli\u2028on\r\n".encode())
    tokens = read_word_list(str(path))
    assert list(tokens.texts.items()) == [(0, " lion"), (1, " löwe"), (3, " New York")]
    assert tokens.reasons == {2: "empty", 4: "not printable"}
    assert tokens.split is None
    path.write_text("lion\t3\nqueen\t10\nlion\t7\ncat\t10\n")
    assert list(read_word_list(str(path)).texts) == [1, 3, 2, 0]
    assert read_frequencies(str(path)) == {"lion": 10, "queen": 10, "cat": 10}
    assert counts_sha256({"a": 1, "b": 2}) == counts_sha256({"b": 2, "a": 1}) != counts_sha256({"a": 1}) != ""
    path.write_text("lion\t3\nqueen\n")
    with pytest.raises(ValueError, match=r"line 2: 'queen' is no count"):
        read_word_list(str(path))
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_word_list(str(path))


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_words_of_a_file_with_vectors_of_another(tmp_path, kind):
    words, rows = tmp_path / "words.txt", torch.nn.functional.normalize(torch.randn(4, 3), dim=1)
    words.write_text("lion\nqueen\nlion\ncat\n")
    vectors = tmp_path / f"rows.{kind}"
    if kind == "npy":
        with vectors.open("wb") as file:
            np.save(file, rows.numpy().astype(">f8"))
    else:
        save_file({"anything": rows}, vectors)
    model = read_language_model(SourceFlags(llm=str(words), vectors=str(vectors)), "output")
    chosen = choose_words(model, WordFilter(keep_outliers=True))
    assert chosen.words == ("lion", "queen", "cat")
    assert torch.equal(chosen.rows, rows[[0, 1, 3]])
    assert "sha256:" in model.embeddings.source, "another file of the same name is told from this one"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("rows.npy", b"no rows", "no table of embeddings that can be read"),
        ("rows.safetensors", b"no rows", "no table of embeddings that can be read"),
        ("absent.npy", None, "no table of embeddings that can be read"),
    ],
)
def test_vectors_that_cannot_be_read_are_named(tmp_path, name, content, reason):
    (tmp_path / "words.txt").write_text("lion\n")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_language_model(SourceFlags(llm=str(tmp_path / "words.txt"), vectors=str(tmp_path / name)), "output")


def test_pickles_flat_tables_and_integers_are_refused(tmp_path):
    (tmp_path / "words.txt").write_text("lion\n")
    arrays = {"pickle": np.array([{}], dtype=object), "flat": np.zeros(3), "integers": np.zeros((1, 3), np.int64)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(ValueError, match="no table of embeddings that can be read"):
            read_language_model(
                SourceFlags(llm=str(tmp_path / "words.txt"), vectors=str(tmp_path / f"{name}.npy")), "output"
            )


def test_flags_that_do_not_go_together_are_named(tmp_path):
    (tmp_path / "words.txt").write_text("lion\n")
    with pytest.raises(ValueError, match="without embeddings; give --vectors"):
        read_language_model(SourceFlags(llm=str(tmp_path / "words.txt")), "output")
    with pytest.raises(ValueError, match="--vectors and --embeddings-endpoint exclude each other"):
        SourceFlags(llm="x", vectors="x", embeddings_endpoint="http://host", embeddings_model="ada")
    with pytest.raises(ValueError, match="--embeddings-from output is of the model's own files"):
        SourceFlags(llm="x", vectors="x", embeddings_from="output")
    for layer in ("layer", "layer:", "layer:-1", "layer:x", "last", ""):
        with pytest.raises(ValueError, match="must be input, output, contextual, or layer:N"):
            SourceFlags(llm="x", embeddings_from=layer)
    with pytest.raises(ValueError, match="--embeddings-before needs hidden states"):
        SourceFlags(llm="x", embeddings_before="the")
    (tmp_path / "words.bin").write_text("lion\n")
    with pytest.raises(ValueError, match=r"not \.bin"):
        read_language_model(SourceFlags(llm=str(tmp_path / "words.bin")), "output")


def test_vectors_come_from_any_store(tmp_path):
    (tmp_path / "words.txt").write_text("lion\nqueen\n")
    for folder, rows in {"one": np.eye(2, 3), "two": 2 * np.eye(2, 3)}.items():
        data = io.BytesIO()
        np.save(data, rows)
        url = f"memory://{uuid.uuid4()}/{folder}/rows.npy"
        publish(url, data.getvalue())
        model = read_language_model(SourceFlags(llm=str(tmp_path / "words.txt"), vectors=url), "output")
        assert np.array_equal(model.embeddings.table.numpy(), rows)
