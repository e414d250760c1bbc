"""Trees of token rows spell their rows, and a model reads them as it reads the rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen3Config,
)

from spae.incontext.token_tree import Branches, TokenTree, TreeReader, common_length, tree_tokens
from tests.tiny_causal import SIZES

ROWS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=6)
KINDS = {
    "llama": (LlamaConfig(**SIZES), 1024),
    "qwen3": (Qwen3Config(**SIZES), 1024),
    "gpt2": (GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4), 1024),
    "mistral": (MistralConfig(**SIZES, sliding_window=64), 63),
    "gemma3": (Gemma3TextConfig(**SIZES, sliding_window=64), 63),
    "bloom": (BloomConfig(vocab_size=400, hidden_size=32, n_layer=2, n_head=4), 0),
}


@given(ROWS)
def test_paths_spell_the_rows_and_nothing_stands_twice(rows):
    tree = TokenTree(rows)
    assert [[tree.tokens[column] for column in path] for path in tree.paths] == rows
    assert all([tree.positions[column] for column in path] == list(range(len(path))) for path in tree.paths)
    assert len(tree.tokens) == len({tuple(row[:length]) for row in rows for length in range(1, len(row) + 1)})
    assert tree.stem == common_length(rows)


@given(ROWS)
def test_a_column_sees_its_row_up_to_itself(rows):
    tree = TokenTree(rows)
    mask = tree.branch_mask()
    for path in tree.paths:
        for place, column in enumerate(path[tree.stem :], tree.stem):
            assert mask[column - tree.stem].nonzero()[:, 0].tolist() == path[: place + 1]
    assert [row.nonzero()[:, 0].tolist() for row in tree.visible()] == tree.paths


@pytest.mark.parametrize("kind", KINDS)
def test_models_read_trees_where_they_can(kind):
    config, reach = KINDS[kind]
    torch.manual_seed(0)
    reader = TreeReader(AutoModelForCausalLM.from_config(config).eval())
    assert tree_tokens(reader, 1024) == reach


def test_rows_grow_side_by_side_as_alone():
    torch.manual_seed(0)
    reader = TreeReader(AutoModelForCausalLM.from_config(LlamaConfig(**SIZES)).eval())
    groups = [[[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8]], [[20, 21, 22, 23, 24]], [[30], [31, 32]]]
    trees = [TokenTree(rows) for rows in groups]
    branches = Branches(reader, trees, [reader.read(tree, [])[1] for tree in trees])
    rows = [list(row) for group in groups for row in group]
    for grown in ([0, 1, 2, 3, 4, 5], [0, 3, 5], [1, 3], [3]):
        tokens = [40 + row for row in grown]
        logits = branches.grow(grown, tokens)
        for row, token, one in zip(grown, tokens, logits, strict=True):
            rows[row].append(token)
            alone, _ = reader.read(TokenTree([rows[row]]), [len(rows[row]) - 1])
            torch.testing.assert_close(one, alone[0], atol=1e-5, rtol=0)


def test_a_model_without_such_a_cache_is_refused():
    reader = TreeReader(
        AutoModelForCausalLM.from_config(MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=2))
    )
    with pytest.raises(ValueError, match="mamba models do not go on"):
        tree_tokens(reader, 1024)
