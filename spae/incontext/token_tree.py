"""Rows of tokens that begin alike, read by a causal language model in two passes without reading anything twice.

The rows of a tree have a stem in common, which is one causal pass, and branches, which are one pass behind it: every
branch token stands once in the sequence, sees its own ancestors alone through a four-dimensional mask and keeps the
position that it has in its row. Nothing is padded, and the cache of the stem is never copied per row, as a batch would
do (8 rows on 2,500 tokens of SmolLM2: 115 MB of keys and values instead of 920). Answers grow behind it the same way,
one column a row and step, and several trees stand side by side in one cache.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from spae.incontext.tree_attention import GrowingLayer, attend_in_groups

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenTree:
    """Rows of token ids, each beginning that several have in common kept once; a column is a token of the tree.

    Args:
        rows: token ids, none empty.
    """

    rows: Sequence[list[int]]
    stem: int = field(init=False)
    """Columns that all rows have in common; all columns of a single row."""
    tokens: list[int] = field(init=False)
    """Of each column, the stem's first."""
    positions: list[int] = field(init=False)
    """Of each column in its rows."""
    paths: list[list[int]] = field(init=False)
    """Of each row, the columns of its tokens."""

    def __post_init__(self) -> None:
        stem = common_length(self.rows)
        tokens, positions = list(self.rows[0][:stem]), list(range(stem))
        column_of: dict[tuple[int, int], int] = {}
        paths = []
        for row in self.rows:
            path = list(range(stem))
            for token in row[stem:]:
                column = column_of.setdefault((path[-1] if path else -1, token), len(tokens))
                if column == len(tokens):
                    tokens.append(token)
                    positions.append(len(path))
                path.append(column)
            paths.append(path)
        for name, value in {"stem": stem, "tokens": tokens, "positions": positions, "paths": paths}.items():
            object.__setattr__(self, name, value)

    def visible(self) -> Tensor:
        """Which columns each row consists of, bool (rows, columns)."""
        visible = torch.zeros(len(self.paths), len(self.tokens), dtype=torch.bool)
        for row, path in zip(visible, self.paths, strict=True):
            row[path] = True
        return visible

    def branch_mask(self) -> Tensor:
        """Which columns each column behind the stem sees, bool (branch columns, columns)."""
        visible = torch.zeros(len(self.tokens) - self.stem, len(self.tokens), dtype=torch.bool)
        visible[:, : self.stem] = True
        for path in self.paths:
            branch = torch.tensor(path[self.stem :], dtype=torch.long)
            visible[branch[:, None] - self.stem, branch] |= branch[:, None] >= branch
        return visible


def common_length(rows: Sequence[list[int]]) -> int:
    """How many first tokens all rows have in common."""
    first, last = min(rows), max(rows)  # in the order of sequences, all others lie between
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


class TreeReader:
    """Runs a causal language model of transformers over trees.

    Args:
        model: in eval mode.
    """

    def __init__(self, model: Any) -> None:
        attend_in_groups(model)
        self.model = model

    @torch.inference_mode()
    def read(self, tree: TokenTree, columns: Sequence[int]) -> tuple[Tensor, Cache]:
        """Logits float32 (len(columns), words) behind the given columns, ascending, and the cache of all."""
        in_stem = [column for column in columns if column < tree.stem]
        in_branches = [column - tree.stem for column in columns if column >= tree.stem]
        cache = Cache(layer_class_to_replicate=GrowingLayer)
        if len(tree.rows) == 1:
            layers = DynamicCache(config=self.model.config).layers
            cache = Cache([GrowingLayer() if type(layer) is DynamicLayer else layer for layer in layers])
        parts = []
        if tree.stem:
            parts.append(self._forward(tree.tokens[: tree.stem], tree.positions[: tree.stem], None, cache, in_stem))
        if tree.stem < len(tree.tokens):
            tokens, positions = tree.tokens[tree.stem :], tree.positions[tree.stem :]
            parts.append(self._forward(tokens, positions, tree.branch_mask(), cache, in_branches))
        return torch.cat(parts), cache

    @torch.inference_mode()
    def _forward(
        self, tokens: list[int], positions: list[int], visible: Tensor | None, cache: Cache, keep: list[int]
    ) -> Tensor:
        """Logits behind the tokens at `keep`; `visible` bool (tokens, columns), None where each sees all before it."""
        device = self.model.device
        mask = None
        if visible is not None:
            visible = visible.to(device)
            mask = torch.zeros(visible.shape, dtype=self.model.dtype, device=device)
            mask = mask.masked_fill_(~visible, torch.finfo(self.model.dtype).min)[None, None]
        output = self.model(
            input_ids=torch.tensor([tokens], device=device),
            position_ids=torch.tensor([positions], device=device),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=torch.tensor(keep or [0], device=device),  # an empty choice means all
        )
        return output.logits[0, : len(keep)].float()


class Branches:
    """Trees side by side in one cache, each row of which grows a token a step.

    Args:
        reader: that read the trees.
        trees: and
        caches: what it made of them.
    """

    def __init__(self, reader: TreeReader, trees: Sequence[TokenTree], caches: Sequence[Cache]) -> None:
        self.reader = reader
        self.cache = caches[0] if len(caches) == 1 else _side_by_side(caches)
        self.visible = torch.block_diag(*(tree.visible().to(torch.uint8) for tree in trees)).bool()
        self.lengths = [len(row) for tree in trees for row in tree.rows]

    def grow(self, rows: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Put a token behind each of some rows; logits float32 (len(rows), words) behind it."""
        new = torch.zeros(len(self.visible), len(rows), dtype=torch.bool)
        new[list(rows), list(range(len(rows)))] = True
        self.visible = torch.cat([self.visible, new], 1)
        seen = self.visible[list(rows)]
        positions = [self.lengths[row] for row in rows]
        for row in rows:
            self.lengths[row] += 1
        mask = None if seen.all() else seen
        return self.reader._forward(list(tokens), positions, mask, self.cache, list(range(len(rows))))


def _side_by_side(caches: Sequence[Cache]) -> Cache:
    """One cache of all columns."""
    whole = Cache(layer_class_to_replicate=GrowingLayer)
    for number, parts in enumerate(zip(*(cache.layers for cache in caches), strict=True)):
        whole.update(torch.cat([one.keys for one in parts], 2), torch.cat([one.values for one in parts], 2), number)
    return whole


def tree_tokens(reader: TreeReader, context_tokens: int) -> int:
    """Tokens up to which rows can be read as trees: every layer sees all before it, as a tree's mask says.

    0 where the model answers trees otherwise than rows, which is tried here.

    ValueError where it does not go on from what it has read as if it read all anew.
    """
    _check_cache(reader)
    reach = context_tokens
    for layer in DynamicCache(config=reader.model.config).layers:
        if type(layer) is DynamicSlidingWindowLayer:
            reach = min(reach, layer.sliding_window - 1)
        elif type(layer) is not DynamicLayer:
            reach = 0
    if reach and not _reads_trees(reader):
        logger.warning("%s models answer trees otherwise than rows", reader.model.config.model_type)
        reach = 0
    if not reach:
        logger.warning("%s models read every prompt alone and whole", reader.model.config.model_type)
    return reach


def _check_cache(reader: TreeReader) -> None:
    row = [5, 6, 7, 8]
    whole, _ = reader.read(TokenTree([row]), [len(row) - 1])
    begun = TokenTree([row[:-1]])
    grown = Branches(reader, [begun], [reader.read(begun, [])[1]]).grow([0], row[-1:])
    if not _alike(reader, whole, grown):
        raise ValueError(
            f"{reader.model.config.model_type} models do not go on from transformers' DynamicCache; serve this one "
            "(`transformers serve`, vLLM) and give the server's address"
        )


def _reads_trees(reader: TreeReader) -> bool:
    rows = [[5, 6, 7, 8, 9], [5, 6, 7, 10], [5, 6, 7, 8, 11]]
    tree = TokenTree(rows)
    ends = [path[-1] for path in tree.paths]
    try:
        together, _ = reader.read(tree, sorted(ends))
    except (ValueError, TypeError, RuntimeError, IndexError, AttributeError):
        return False
    alone = torch.cat([reader.read(TokenTree([row]), [len(row) - 1])[0] for row in rows])
    return _alike(reader, together[[sorted(ends).index(end) for end in ends]], alone)


def _alike(reader: TreeReader, some: Tensor, others: Tensor) -> bool:
    share = 1e-3 if reader.model.dtype == torch.float32 else 0.1  # a wrong mask or position costs more than that
    return bool((some - others).abs().max() <= share * others.std())
