import hashlib
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pipelines.words.choice import NAMED, WordFilter, candidates, choose_words
from pipelines.words.decoding import decode_tokens
from pipelines.words.denied import DEFAULT, NONE, DeniedWords, read_denied
from pipelines.words.tokens import LanguageModel, RowsError, RowSource, TableRows, Tokens, UnaskedRows, sort_texts

TEXTS = st.lists(st.text(alphabet=" abäB1.\u0000", max_size=3), min_size=1, max_size=30)


def table(rows, seed=0):
    """Rows of about one length, which have no outliers."""
    made = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(made, dim=1)


def language_model(texts, extra_rows=0):
    good, reasons = sort_texts(dict(enumerate(texts)), {})
    return LanguageModel(Tokens("tiny", "1", good, reasons), TableRows("rows", table(len(texts) + extra_rows)))


@given(
    TEXTS,
    st.integers(0, 3),
    st.builds(
        WordFilter,
        pattern=st.sampled_from(["", "[ab]+|word"]),
        whole=st.booleans(),
        max_words=st.none() | st.integers(1, 9),
        denied=st.frozensets(st.sampled_from(["a", "b", "ab"])),
        frequencies=st.dictionaries(st.sampled_from(["a", "b", "aa", "B"]), st.integers(0, 9)),
        keep_outliers=st.booleans(),
    ),
)
def test_word_id_and_row_are_a_bijection_and_every_token_is_counted_once(texts, extra, rules):
    model = language_model([*texts, " word", "ab"], extra)
    words = choose_words(model, rules)
    ids = words.llm_ids.tolist()
    assert len(words.words) == len(set(words.words)) == len(ids) == len(set(ids)) == len(words.rows)
    assert [model.tokens.texts[token].strip() for token in ids] == list(words.words)
    assert torch.equal(words.rows, model.embeddings.table[words.llm_ids])
    assert len(words.words) + sum(words.dropped.values()) == model.size == len(texts) + 2 + extra
    counts = [rules.frequencies.get(word, 0) for word in words.words]
    assert counts == sorted(counts, reverse=True)
    assert not set(words.words) & rules.denied
    assert len(words.words) <= (rules.max_words or model.size)


def test_counts_rank_the_words_before_the_cut():
    model = language_model([" the", " lion", "lion", " queen", " cat"])
    words = choose_words(model, WordFilter(max_words=3, frequencies={"queen": 5, "lion": 9, "absent": 99}))
    assert words.words == ("lion", "queen", "the")
    assert words.llm_ids.tolist() == [1, 3, 0], "the more frequent of two tokens that are one word"
    assert words.dropped == {"duplicate": 1, "beyond max_words": 1}


def test_outliers_are_named_and_can_be_kept():
    rows = table(300)
    rows[7] *= 100
    rows[200] /= 100
    model = LanguageModel(Tokens("tiny", "1", {token: f" w{token}" for token in range(300)}), TableRows("rows", rows))
    words = choose_words(model, WordFilter(include=("w200",)))
    assert (words.dropped, words.examples) == ({"norm outlier": 1}, {"norm outlier": ("w7",)})
    kept = choose_words(model, WordFilter(keep_outliers=True))
    assert (len(kept.words), kept.dropped, kept.examples) == (300, {}, {})
    rows[150 : 150 + NAMED // 2 + 10] *= 100
    rows[0 : NAMED // 2] /= 100
    words = choose_words(model, WordFilter())
    assert words.dropped["norm outlier"] > NAMED == len(words.examples["norm outlier"])


class CountingRows(RowSource):
    source, on_demand = "counted", True

    def rows(self, words, tokens):
        self.asked = list(words)
        return table(len(words))


def test_rows_that_cost_something_are_asked_for_after_the_cut():
    rows = CountingRows()
    model = LanguageModel(Tokens("tiny", "", {token: f" w{token}" for token in range(9)}), rows)
    words = choose_words(model, WordFilter(max_words=4, include=("w8",)))
    assert rows.asked == list(words.words) == ["w0", "w1", "w2", "w8"]
    assert words.dropped == {"beyond max_words": 5}
    assert model.revision == f"sha256:{model.tokens.sha256}"
    dry = choose_words(LanguageModel(model.tokens, UnaskedRows("x")), WordFilter(max_words=4))
    assert dry.words == ("w0", "w1", "w2", "w3")
    assert list(candidates(model, WordFilter())[0]) == [f"w{token}" for token in range(9)]


class Rows(RowSource):
    """One row a token, for a price."""

    source, on_demand = "bought", True

    def __init__(self, table):
        self.table, self.asked = table, []

    def rows(self, words, tokens):
        self.asked += words
        return self.table[torch.tensor(tokens)]


def test_outliers_on_demand_are_replaced_by_the_next_words():
    texts = {token: f" w{token}" for token in range(300)}
    bought = Rows(table(300))
    bought.table[[3, 7, 41]] *= 100
    model = LanguageModel(Tokens("tiny", "", texts), bought)
    words = choose_words(model, WordFilter(max_words=41, include=("w299",)))
    assert words.words == tuple(f"w{token}" for token in [*range(43), 299] if token not in (3, 7, 41))
    assert torch.equal(words.rows, bought.table[words.llm_ids])
    assert words.dropped == {"norm outlier": 3, "beyond max_words": 300 - 41 - 3}
    assert len(bought.asked) == len(set(bought.asked)) == 44, "no row is paid that is not needed, and none twice"
    everything = choose_words(model, WordFilter(max_words=299))
    assert (len(everything.words), everything.dropped) == (297, {"norm outlier": 3})


def test_a_row_on_demand_that_is_not_finite_is_named():
    bought = Rows(table(9))
    bought.table[5, 2] = torch.nan
    model = LanguageModel(Tokens("tiny", "", {token: f" w{token}" for token in range(9)}), bought)
    with pytest.raises(RowsError, match="bought: the row of token 5 'w5' is not finite"):
        choose_words(model, WordFilter())


def test_denied_words_are_left_out_in_any_case():
    denied = DeniedWords(f"# a comment\n\nLion\nsha256:{hashlib.sha256(b'queen').hexdigest()}\n")
    model = language_model([" lion", " LION", " Queen", " cat", " queens"])
    words = choose_words(model, WordFilter(denied=denied))
    assert words.words == ("cat", "queens")
    assert words.dropped == {"denied": 3}
    assert "LION" in choose_words(model, WordFilter(denied=denied, include=("LION",))).words
    with pytest.raises(ValueError, match="is no sha256"):
        DeniedWords("sha256:abc")


def test_the_default_list_is_of_hashes_and_files_replace_it(tmp_path):
    default = read_denied(DEFAULT)
    assert len(default.hashes) > 50
    assert not any(word in default for word in ("the", "lion", "black", "white", "nigeria", "spice", "Jew", "gay"))
    assert (len(read_denied(NONE).hashes), read_denied(NONE).sha256) == (0, ""), "as before there were lists"
    assert "lion" not in read_denied(NONE)
    own = tmp_path / "own.txt"
    own.write_text("lion\n")
    assert "Lion" in read_denied(str(own))
    assert len({read_denied(name).sha256 for name in (DEFAULT, NONE, str(own))}) == 3
    with pytest.raises(ValueError, match="--deny /no/such/file cannot be read"):
        read_denied("/no/such/file")
    own.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_denied(str(own))


def wrapped(tokenizer, **specials):
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials)


def test_added_tokens_are_plain_text_also_among_bytes():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(["a lion"] * 3, trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet))
    tokenizer.add_tokens(["né", "löwe", "Ġplain"])
    texts, reasons = decode_tokens(wrapped(tokenizer))
    assert {"né", "löwe", "Ġplain", " lion"} <= set(texts.values())
    assert len(texts) + len(reasons) == tokenizer.get_vocab_size()


def test_words_that_end_with_a_mark_are_whole():
    vocabulary = {"a": 0, "a</w>": 1, "ab</w>": 2, "Ã¤</w>": 3, "Ã</w>": 4}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], end_of_word_suffix="</w>"))
    tokenizer.decoder = decoders.ByteLevel()
    texts, reasons = decode_tokens(wrapped(tokenizer))
    assert texts == {0: "a", 1: " a", 2: " ab", 3: " ä"}
    assert reasons == {4: "invalid UTF-8"}


def test_pieces_are_ranked_by_their_probability():
    pieces = [("<unk>", 0.0), ("▁rare", -9.0), ("▁often", -1.0), ("<0xE4>", -2.0), ("▁some", -3.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.decoder = decoders.Metaspace()
    texts, reasons = decode_tokens(wrapped(tokenizer, unk_token="<unk>"))
    assert list(texts.items()) == [(2, " often"), (4, " some"), (1, " rare")]
    assert reasons == {0: "special", 3: "invalid UTF-8"}
    assert json.loads(tokenizer.to_str())["model"]["type"] == "Unigram"
