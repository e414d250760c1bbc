"""Prompts laid out for a causal tower: one tall matrix of tokens a batch, nothing of it padding.

Each template's beginning stands there once, then the rest of its prompts, those of equal length side by side. All but
the attention is then one product over all rows, and the attention goes group by group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Group:
    """Sequences of equal length, side by side, each behind the same beginning."""

    beginning: slice  # rows of the beginning, which are not those of the sequences
    rows: slice
    length: int
    pooled: bool  # False for a beginning itself: nothing is pooled from it
    sees_itself: bool = True  # whether the last position's own key counts

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention (n, Q, heads, width) of the last Q positions: query like it; key, value (rows, heads, width)."""
        count, queries = query.shape[:2]
        before = self.beginning.stop - self.beginning.start
        keys, values = (self._with_beginning(part, count).transpose(1, 2) for part in (key, value))
        mask = None
        if queries > 1 or not self.sees_itself:
            mask = torch.ones(queries, before + self.length, dtype=torch.bool, device=query.device)
            mask = mask.tril(before + self.length - queries)
            mask[-1, -1] = self.sees_itself
        return functional.scaled_dot_product_attention(query.transpose(1, 2), keys, values, mask).transpose(1, 2)

    def _with_beginning(self, part: Tensor, count: int) -> Tensor:
        own = part[self.rows].unflatten(0, (count, self.length))
        if self.beginning.start == self.beginning.stop:
            return own
        return torch.cat([part[self.beginning].expand(count, -1, -1, -1), own], dim=1)


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """Rows of a batch: ids (rows,), positions (rows,), groups that tile them, rows of the pooled positions."""

    ids: Tensor
    positions: Tensor
    groups: tuple[Group, ...]
    pooled: Tensor

    def to(self, device: torch.device) -> PromptBatch:
        """The same batch on a device."""
        return PromptBatch(self.ids.to(device), self.positions.to(device), self.groups, self.pooled.to(device))


def lay_out(ids: Tensor, positions: Tensor, kinds: Tensor) -> PromptBatch:
    """The rows of some prompts.

    Args:
        ids: int64 (n, columns), the tokens that count first; what follows them in shorter prompts is not read.
        positions: int64 (n, columns), theirs in the context.
        kinds: int64 (n, 3), each prompt's template, length and whether its last position sees itself. Prompts of a
            template must adjoin, and so must those of a kind.
    """
    pieces: list[tuple[slice, slice]] = []  # prompts and columns, in the order of the rows
    groups: list[Group] = []
    pooled: list[Tensor] = []
    end = 0
    for template in _runs(kinds[:, :1]):
        shared = _shared(ids[template], positions[template], int(kinds[template, 1].min()))
        beginning = slice(end, end + shared)
        if shared:
            pieces.append((slice(template.start, template.start + 1), slice(0, shared)))
            groups.append(Group(slice(0, 0), beginning, shared, pooled=False))
            end += shared
        for run in _runs(kinds[template]):
            prompts = slice(template.start + run.start, template.start + run.stop)
            total, sees_itself = kinds[prompts.start, 1:].tolist()
            pieces.append((prompts, slice(shared, total)))
            rows = slice(end, end + (run.stop - run.start) * (total - shared))
            groups.append(Group(beginning, rows, total - shared, True, bool(sees_itself)))
            pooled.append(torch.arange(rows.start + total - shared - 1, rows.stop, total - shared))
            end = rows.stop
    flat_ids, flat_positions = (torch.cat([part[piece].flatten() for piece in pieces]) for part in (ids, positions))
    return PromptBatch(flat_ids, flat_positions, tuple(groups), torch.cat(pooled))


def _runs(kinds: Tensor) -> Iterator[slice]:
    """Where rows of kinds (n, m) stay the same."""
    counts = torch.unique_consecutive(kinds, dim=0, return_counts=True)[1].tolist()
    start = 0
    for count in counts:
        yield slice(start, start + count)
        start += count


def _shared(ids: Tensor, positions: Tensor, shortest: int) -> int:
    """Columns that all prompts begin with, short of the pooled one; none for a prompt alone."""
    if len(ids) == 1:
        return 0
    same = ((ids == ids[0]) & (positions == positions[0])).all(dim=0)
    return int(same[: shortest - 1].int().cumprod(dim=0).sum())
