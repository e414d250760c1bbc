"""What is put behind a cache, and attention in groups, equal transformers' own."""

import pytest
import torch
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from spae.incontext.tree_attention import GrowingLayer, _grouped_attention


def test_a_growing_layer_holds_what_a_concatenated_one_does():
    draws = torch.Generator().manual_seed(0)
    growing, own = GrowingLayer(), DynamicLayer()
    for columns in (5, 1, 1, 30, 2, *[1] * 40):
        new = torch.randn(2, 1, 3, columns, 4, generator=draws)
        for held, expected in zip(growing.update(*new), own.update(*new), strict=True):
            assert torch.equal(held, expected)
    assert growing.get_seq_length() == own.get_seq_length() == 79


def test_columns_are_seldom_copied():
    layer = GrowingLayer()
    places = set()
    for _ in range(1_000):
        keys, _ = layer.update(*torch.zeros(2, 1, 1, 1, 2))
        places.add(keys.data_ptr())
    assert len(places) < 60


@pytest.mark.parametrize(("heads", "shared"), [(6, 2), (6, 6), (4, 1)])
@pytest.mark.parametrize("tokens", [1, 7])
def test_attention_in_groups_is_attention(heads, shared, tokens):
    draws = torch.Generator().manual_seed(1)
    module = torch.nn.Module()
    module.num_key_value_groups = heads // shared
    query = torch.randn(1, heads, tokens, 8, generator=draws)
    key, value = torch.randn(2, 1, shared, 20, 8, generator=draws)
    mask = torch.where(torch.rand(1, 1, tokens, 20, generator=draws) < 0.5, 0.0, torch.finfo(torch.float32).min)
    mask[..., 0] = 0
    for given in (mask, None):
        found, _ = _grouped_attention(module, query, key, value, given, scaling=0.3, is_causal=False)
        expected, _ = sdpa_attention_forward(module, query, key, value, given, scaling=0.3, is_causal=False)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
