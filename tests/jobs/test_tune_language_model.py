import json
import logging
import re
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import LlamaConfig

from jobs import tune_language_model
from spae.incontext.weights import open_weights
from tests import tiny_causal
from tests.tiny_shards import samples, write_split
from tests.tiny_tokens import tokenize_split


@pytest.fixture(scope="module")
def tokens(model, tmp_path_factory):
    """Tables of a training and a held-out split, with vocabulary and classes beside them."""
    made = tmp_path_factory.mktemp("tables")
    for seed, split in enumerate(("train", "val")):
        folder = write_split(made / split, [samples(12, 2 * seed + number) for number in range(2)], split)
        tokenize_split(model, folder, made / "tokens")
    (made / "tokens/classes.parquet").write_bytes((Path(folder) / "classes.parquet").read_bytes())
    return made / "tokens"


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    return tiny_causal.save_causal(tmp_path_factory.mktemp("llm"), LlamaConfig(**tiny_causal.SIZES))


def run(tokens, llm, output, *flags):
    tables = ["--tokens", f"{tokens}/train-*.parquet", "--val-tokens", f"{tokens}/val-*.parquet"]
    return tune_language_model.main([*tables, "--llm", llm, "--output", str(output), *flags])


@pytest.mark.parametrize("learn", ["words", "caption"])
def test_an_adapter_lowers_the_held_out_loss_and_can_be_opened(tokens, llm, tmp_path, learn):
    flags = ["--steps", "12", "--learning-rate", "1e-2", "--layers", "2", "--learn", learn]
    assert run(tokens, llm, tmp_path, *flags) == 0
    record = json.loads((tmp_path / "tuning.json").read_text())
    assert record["loss_after"] < record["loss_before"] - 0.1
    assert (record["steps"], record["flags"]["learn"]) == (12, learn)
    opened = PeftModel.from_pretrained(open_weights(llm, "cpu", None), str(tmp_path))
    assert opened.peft_config["default"].base_model_name_or_path == llm


def test_a_loss_that_does_not_fall_is_told_by_the_status(tokens, llm, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert run(tokens, llm, tmp_path, "--steps", "1", "--learning-rate", "1e5", "--layers", "1") == 1
    assert "after 1 steps" in caplog.text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layers", "5"], r"stores 4 layers of 4, not 5"),
        (["--caption", "caption"], r"has no column caption"),
        (["--sequence-tokens", "9999"], r"is over the context of .*, 1024"),
        (["--sequence-tokens", "20"], r"fits no sequence of 20"),
        (["--tokens", "nowhere"], r"nowhere names no token tables"),
        (["--llm", "nowhere.gguf"], r"nowhere.gguf"),
    ],
)
def test_unusable_arguments_are_named(tokens, llm, tmp_path, caplog, flags, message):
    assert run(tokens, llm, tmp_path / "adapter", *flags) == 2
    assert re.search(message, caplog.text)
    assert not (tmp_path / "adapter").exists()


def test_what_lacks_beside_the_tables_is_named(tokens, llm, tmp_path, caplog):
    for path in tokens.glob("*-*.parquet"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert run(tmp_path, llm, tmp_path / "adapter") == 2
    assert "has no vocabulary.parquet; write it by" in caplog.text
    (tmp_path / "vocabulary.parquet").write_bytes((tokens / "vocabulary.parquet").read_bytes())
    assert run(tmp_path, llm, tmp_path / "adapter") == 2
    assert "has no classes.parquet with names of the labels; give --caption COLUMN" in caplog.text


@pytest.mark.parametrize("flags", [["--minutes", "0"], ["--steps", "0"], ["--learn", "all"], ["--rnak", "2"]])
def test_impossible_flags_end_with_2(tokens, llm, tmp_path, flags):
    with pytest.raises(SystemExit) as ended:
        run(tokens, llm, tmp_path, *flags)
    assert ended.value.code == 2


@pytest.mark.slow
def test_smollm2_learns_to_write_the_words(tokens, tmp_path):
    flags = ["--steps", "5", "--sequence-tokens", "128", "--val-sequences", "2", "--layers", "2"]
    assert run(tokens, tiny_causal.smollm2(), tmp_path, *flags) == 0
    record = json.loads((tmp_path / "tuning.json").read_text())
    assert record["loss_after"] < record["loss_before"]
