"""Attention of a few new tokens to many that are cached, without copying what is cached.

transformers' own way copies all keys and values twice a step where there is a mask: `torch.cat` puts the new column
behind them, and each key is repeated for every query head that shares it (SmolLM2, three: 46 kB a column, 230 MB and
690 MB at 5,000 columns).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

_NAME = "spae_grouped"
_SPARE = 8
"""Columns beyond what a full cache must hold: one part in so many, and so many at least."""


class GrowingLayer(DynamicLayer):
    """A layer's keys and values, behind which columns are put in place."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """As the base class, with no room yet."""
        super().lazy_initialization(key_states, value_states)
        self._room = [key_states[:, :, :0], value_states[:, :, :0]]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """All keys and values, (1, heads, columns, width) each, the new ones last."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.get_seq_length()
        total = held + key_states.shape[2]
        for number, new in enumerate((key_states, value_states)):
            if total > (room := self._room[number]).shape[2]:
                larger = new.new_empty(*new.shape[:2], total + max(total // _SPARE, _SPARE), new.shape[3])
                larger[:, :, :held] = room[:, :, :held]
                self._room[number] = room = larger
            room[:, :, held:total] = new
        self.keys, self.values = (room[:, :, :total] for room in self._room)
        return self.keys, self.values


def attend_in_groups(model: Any) -> None:
    """Let a model of transformers compute masked attention without repeating keys, where it uses torch's kernels."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(_NAME, _grouped_attention)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        model.set_attn_implementation(_NAME)


def _grouped_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """As `sdpa_attention_forward`: the query heads (1, heads, tokens, width) that share a key are rows behind its
    head, each under the mask (1, 1, tokens, columns) of its token.
    """
    batch, heads, tokens, width = query.shape
    groups = heads // key.shape[1]
    if attention_mask is None or attention_mask.shape[1] != 1 or groups == 1 or more.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **more)
    rows = query.reshape(batch, heads // groups, groups * tokens, width)
    found = scaled_dot_product_attention(rows, key, value, attention_mask.repeat(1, 1, groups, 1), scale=scaling)
    return found.reshape(batch, heads, tokens, -1).transpose(1, 2).contiguous(), None
