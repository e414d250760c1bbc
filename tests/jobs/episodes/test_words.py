"""Words of a split from its shards and from its token tables, read when they are needed and not before."""

import json
import re

import numpy as np
import pytest

from jobs.episodes.words import SplitWords
from spae.incontext.tasks import random_table
from spae.model import SPAE
from tests import tiny_spae
from tests.jobs.episodes.runs import SETTING, rows, run, save_splits
from tests.tiny_shards import samples, write_split
from tests.tiny_tokens import tokenize_split

RANDOM = f"{SETTING}+random-table"


@pytest.fixture
def own(tmp_path):
    """Splits of which files may be taken away."""
    return save_splits(tmp_path)


def lose_pictures(folder):
    for tar in folder.rglob("*.tar"):
        tar.unlink()


def test_where_nothing_is_left_to_ask_no_picture_is_read(own, model, tmp_path):
    assert run(own, model, tmp_path / "out") == 0
    before = (tmp_path / "out/summary.json").read_bytes()
    lose_pictures(own)
    assert run(own, model, tmp_path / "out") == 0
    assert (tmp_path / "out/summary.json").read_bytes() == before
    assert run(own, model, tmp_path / "out", "--episodes", "60") == 2, "what is to ask needs them"


@pytest.mark.parametrize("layers", [None, 2])
def test_token_tables_give_the_same_rows_without_pictures(own, model, tmp_path, layers):
    assert run(own, model, tmp_path / "encoded", "--batch", "4") == 0
    for split in ("train", "test"):
        tokenize_split(model, str(own / split), tmp_path / "tokens", layers=layers)
    lose_pictures(own)
    flags = ("--tokens", tmp_path / "tokens", "--support-tokens", tmp_path / "tokens")
    assert run(own, model, tmp_path / "stored", *flags) == 0
    assert rows(tmp_path / "encoded") == rows(tmp_path / "stored")


def test_layers_that_tables_lack_are_named(own, model, tmp_path, caplog):
    tokenize_split(model, str(own / "train"), tmp_path / "tokens", layers=1)
    assert run(own, model, tmp_path / "out", "--support-tokens", tmp_path / "tokens") == 2
    assert "stores 1 layers of 4, not 2; write tables with more layers" in caplog.text


def test_tables_of_another_model_are_refused_with_both_fingerprints(own, model, tmp_path, caplog):
    other = tiny_spae.model(seed=1)
    other.save_pretrained(str(tmp_path / "other"))
    tokenize_split(str(tmp_path / "other"), str(own / "train"), tmp_path / "tokens")
    assert run(own, model, tmp_path / "out", "--support-tokens", tmp_path / "tokens") == 2
    assert other.fingerprint in caplog.text
    assert SPAE.from_pretrained(model).fingerprint in caplog.text
    assert not (tmp_path / "out").exists()


def test_words_are_those_of_the_pictures_with_a_label(tmp_path):
    model, pictures = tiny_spae.model(), samples(7)
    pictures[2] = (*pictures[2][:2], None)
    pictures[4] = (pictures[4][0], b"broken", 1)
    folder = write_split(tmp_path, [pictures[:3], pictures[3:]])
    words = SplitWords(model, folder, 2, 3)
    assert list(words.keys) == [pictures[n][0] for n in (0, 1, 3, 5, 6)]
    assert words.labels.tolist() == [0, 1, 0, 2, 0]
    assert {label: rows.tolist() for label, rows in words.members.items()} == {0: [0, 2, 4], 1: [1], 2: [3]}
    assert all(len(words.text(row).split()) == 5 for row in range(5))


def test_no_label_at_all_is_named(tmp_path):
    folder = write_split(tmp_path, [[(key, media, None) for key, media, _ in samples(3)]])
    with pytest.raises(ValueError, match="no picture with a label"):
        _ = SplitWords(tiny_spae.model(), folder, 1, 3).keys


@pytest.mark.parametrize("words", [2, 3, 40, 1001])
def test_a_random_table_has_another_word_at_every_place(words):
    table = random_table(words)
    assert sorted(table.tolist()) == list(range(words))
    assert not (table == np.arange(words)).any()
    assert np.array_equal(table, random_table(words))


def test_a_random_table_keeps_which_words_are_equal_and_nothing_else(own, model, tmp_path):
    """Nearest-context compares words for equality alone: it answers the same."""
    assert run(own, model, tmp_path / "out", "--settings", SETTING, RANDOM, "--episodes", "10", "--layers", "1") == 0
    found = rows(tmp_path / "out")
    plain, other = ([row for row in found if row["setting"] == setting] for setting in (SETTING, RANDOM))
    assert [row["answer"] for row in plain] == [row["answer"] for row in other]
    table = random_table(40)
    for one, twin in zip(plain, other, strict=True):
        told = re.sub(r"\bword(\d+)\b", lambda word: f"word{table[int(word[1])]}", one["prompt"])
        assert told == twin["prompt"] != one["prompt"]
    summary = json.loads((tmp_path / "out/summary.json").read_text())["few-shot-made-up"]
    assert summary[RANDOM]["paired"][SETTING]["mean"] == 0
