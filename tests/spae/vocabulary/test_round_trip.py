import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from spae.vocabulary.record import RoundTripRecord
from spae.vocabulary.round_trip import SEPARATORS, measure_round_trip, split_text, try_separator

TEXT = ["the lion's den, a queen and 42 lions; one two three 7 seven-eight! (a lion?)"] * 20


@pytest.fixture(scope="module")
def byte_level():
    """Words of a byte-level BPE, and its tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet))
    texts = {token: tokenizer.decode([token]) for token in range(tokenizer.get_vocab_size())}

    def split(text):
        words = (texts[token].strip() for token in tokenizer.encode(text).ids)
        return [word for word in words if word]

    words = dict.fromkeys(text.strip() for text in texts.values())
    return [word for word in words if word and word.isprintable() and "�" not in word], split


@pytest.fixture(scope="module")
def word_pieces():
    """Words of a WordPiece vocabulary, pieces too, and a tokenizer that prints them without their marks."""
    vocabulary = ["[UNK]", "lion", "queen", "the", "##s", "##ing", "s", ".", ",", "'", "42", "a"]
    tokenizer = Tokenizer(
        models.WordPiece(vocab={word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return [word.removeprefix("##") for word in vocabulary[1:] if word != "##s"], lambda text: [
        token.removeprefix("##") for token in tokenizer.encode(text).tokens
    ]


def check(words, split, record):
    """The survivors come back in random orders."""
    lost = set(record.lost)
    survivors = [word for number, word in enumerate(words) if number not in lost]
    assert len(survivors) == record.survivors > 0
    generator = random.Random(1)
    for _ in range(20):
        order = generator.choices(survivors, k=200)
        assert split_text(record.join(order), split, record.separator) == order


def test_survivors_of_byte_level_tokens_come_back(byte_level):
    words, split = byte_level
    record = measure_round_trip(words, split)
    check(words, split, record)
    survivors = {word for number, word in enumerate(words) if number not in record.lost}
    assert {"lion", "queen", "seven"} <= survivors
    assert record.start == " ", "the first word begins with a space too"
    for separator in SEPARATORS:
        assert try_separator(words, split, separator, "").survivors <= record.survivors


def test_pieces_that_continue_a_word_are_lost(word_pieces):
    words, split = word_pieces
    record = measure_round_trip(words, split)
    check(words, split, record)
    assert (record.separator, record.start) == (" ", "")
    assert [words[number] for number in record.lost] == ["ing"]
    with_commas = try_separator(words, split, ", ", "")
    assert {words[number] for number in with_commas.lost} == {"ing", ","}, "the separator itself is no word"


def test_of_equals_the_first_separator_is_taken():
    record = measure_round_trip(["a", "b"], str.split)
    assert record == RoundTripRecord(separator=" ", start="", words=2, lost=())


def test_of_a_pair_that_breaks_the_word_goes_that_breaks_more():
    words = ["'", "s", "t", "lion"]

    def split(text):
        return text.replace("' ", "'").split()

    assert try_separator(words, split, " ", "").lost == (0,)


def test_nothing_survives_a_tokenizer_of_other_words():
    assert measure_round_trip(["lion", "queen"], lambda text: ["?"]).survivors == 0
