"""A causal language model of transformers on this machine, from a folder, the hub or a GGUF file.

Prompts that share their beginning are read as one tree of tokens (`token_tree`): the shared text once, the rest behind
it in one pass, and answers grow side by side. What comes out equals the model's own answers to one prompt after
another.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import Cache

from spae.incontext.generation import Allowed, AllowedTexts, AllowedWords, GrowingAnswer, WordTokens
from spae.incontext.language_model import Answer, AnswerLimits, Prompt, context_overrun
from spae.incontext.text_tokens import TextTokens
from spae.incontext.token_tree import Branches, TokenTree, TreeReader, common_length, tree_tokens
from spae.incontext.weights import context_tokens, open_tokenizer, open_weights, weights_revision

_BRANCH_TOKENS = 512
"""Tokens behind a stem that are read at once, where the stem is no longer: each is weighed against each, in vain."""
_CELLS = 262_144
"""Rows times columns of trees that grow side by side, where each row passes over the columns of all (SmolLM2, CPU,
seconds a step side by side and one by one: 10 rows of 1,300 tokens .24 and .66; on a busy machine 16 of 1,000 1.7 and
7.3, 32 of 500 9.5 and 11)."""


class TransformersModel:
    """Any causal language model that transformers opens; its code is transformers' own, its weights never a pickle.

    Args:
        place: a local folder, a hub id, or a local .gguf file.
        name: as people call it; the place's last part by default.
        device: of torch, such as cpu or cuda.
        dtype: such as float32 or bfloat16; by default float32 on a CPU and the weights' own elsewhere.
        token_budget: most tokens that are held at once with their keys and values, which bounds the memory; a longer
            prompt runs alone.

    Raises:
        ValueError: nothing there can be opened.
    """

    def __init__(
        self,
        place: str,
        *,
        name: str | None = None,
        device: str = "cpu",
        dtype: str | None = None,
        token_budget: int = 16_384,
    ) -> None:
        self.name = name or Path(place).name
        self.token_budget = token_budget
        tokenizer, model = open_tokenizer(place), open_weights(place, device, dtype)
        self.revision = weights_revision(place)
        self._tokens, self._reader = TextTokens(tokenizer), TreeReader(model)
        self.context_tokens = context_tokens(model.config)
        ends = model.generation_config.eos_token_id if model.generation_config else None
        ends = ends if isinstance(ends, list) else [ends]
        self._ends = frozenset(end for end in [*ends, tokenizer.eos_token_id] if end is not None)
        self._word_tokens: dict[tuple[str, ...], WordTokens] = {}
        self._tree_tokens = tree_tokens(self._reader, self.context_tokens)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, the mark of a beginning included."""
        return len(self._tokens.ids(text))

    def answer(self, prompts: Sequence[Prompt], limits: AnswerLimits) -> list[Answer]:
        """One answer a prompt, in their order; those that do not fit the context get an error.

        ValueError where an allowed text cannot come out within the most tokens.
        """
        rows = [self._tokens.ids(prompt.text) for prompt in prompts]
        answers: dict[int, Answer] = {}
        for number, row in enumerate(rows):
            message = context_overrun(self.context_tokens, len(row), limits.most_tokens)
            if message or not row:
                answers[number] = Answer("", len(row), 0, 0.0, message or "the prompt is empty")
        growing = self._growing(prompts, limits, [number for number in range(len(rows)) if number not in answers])
        groups = self._groups([prompt.shared for prompt in prompts], rows, list(growing), limits.most_tokens)
        for pack in self._packs(groups, rows, limits.most_tokens):
            started = time.perf_counter()
            members = [number for group in pack for number in group]
            self._grow([TokenTree([rows[number] for number in group]) for group in pack], [growing[m] for m in members])
            seconds = (time.perf_counter() - started) / len(members)
            for number in members:
                answers[number] = _finished(growing[number], len(rows[number]), seconds, limits)
        return [answers[number] for number in range(len(prompts))]

    def log_likelihoods(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[list[float]]:
        """log p(continuation | prompt): of the tokens of the whole text behind those that it has in common with the
        prompt's.

        ValueError where a text is empty on the whole, or longer than the context.
        """
        shared, rows, starts = [], [], []
        for prompt, texts in zip(prompts, continuations, strict=True):
            alone = self._tokens.ids(prompt.text)
            for text in texts:
                row = self._tokens.ids(prompt.text + text)
                if message := context_overrun(self.context_tokens, len(row), 0):
                    raise ValueError(f"{self.name}: {message}")
                start = common_length([alone, row])
                if start == 0 and row:
                    raise ValueError(f"{self.name} has nothing before {text[:40]!r}; give a prompt of a token or more")
                shared.append(prompt.shared)
                rows.append(row)
                starts.append(start)
        scores: dict[int, float] = {number: 0.0 for number, row in enumerate(rows) if len(row) == starts[number]}
        left = [number for number in range(len(rows)) if number not in scores]
        for group in self._groups(shared, rows, left, 0):
            tree = TokenTree([rows[number] for number in group])
            scores |= zip(group, self._scores(tree, [starts[number] for number in group]), strict=True)
        found = iter(scores[number] for number in range(len(rows)))
        return [[next(found) for _ in texts] for texts in continuations]

    def _scores(self, tree: TokenTree, starts: Sequence[int]) -> list[float]:
        """Of each row of a tree, the sum of log p of its tokens from its start on."""
        before = [path[start - 1 : -1] for path, start in zip(tree.paths, starts, strict=True)]
        columns = sorted({column for path in before for column in path})
        place = {column: number for number, column in enumerate(columns)}
        logits, _ = self._reader.read(tree, columns)
        total = logits.logsumexp(1)
        scores = []
        for row, start, path in zip(tree.rows, starts, before, strict=True):
            at = torch.tensor([place[column] for column in path], device=logits.device)
            after = torch.tensor(row[start:], device=logits.device)
            scores.append(float((logits[at, after] - total[at]).double().sum()))
        return scores

    def _growing(
        self, prompts: Sequence[Prompt], limits: AnswerLimits, numbers: Sequence[int]
    ) -> dict[int, GrowingAnswer]:
        """An answer to grow for each of some prompts."""
        allowed: dict[str, Allowed] = {}
        growing = {}
        for number in numbers:
            text = prompts[number].text
            line = text[text.rfind("\n") + 1 :]  # what tokens of the next text can depend on
            if limits.allowed and line not in allowed:
                allowed[line] = self._allowed(line, limits)
            ends = self._ends
            if limits.allowed:
                ends |= {token for stop in limits.stop for token in self._tokens.behind(line, stop)[:1]}
            growing[number] = GrowingAnswer(self._tokens, limits, ends, prompts[number], allowed.get(line))
        return growing

    def _allowed(self, line: str, limits: AnswerLimits) -> Allowed:
        if limits.count == 1:
            return AllowedTexts.behind(line, self._tokens, limits)
        if limits.allowed not in self._word_tokens:
            self._word_tokens = {
                limits.allowed: WordTokens.of(limits.allowed, self._tokens)
            }  # one vocabulary at a time
        return AllowedWords(self._word_tokens[limits.allowed], limits.count, self._tokens)

    def _groups(
        self, shared: Sequence[str], rows: Sequence[list[int]], numbers: Sequence[int], most_tokens: int
    ) -> list[list[int]]:
        """Numbers of rows that are read as one tree each: of one shared text, within the budget."""
        together: dict[str, list[int]] = {}
        for number in numbers:
            together.setdefault(shared[number], []).append(number)
        groups: list[list[int]] = []
        for members in together.values():
            stem = common_length([rows[number] for number in members])
            most = min(max(stem, _BRANCH_TOKENS), self.token_budget - stem)
            longest = max(len(rows[number]) for number in members) + most_tokens
            room = -1
            for number in members:
                takes = len(rows[number]) - stem + most_tokens
                room -= takes
                if room < 0 or longest > self._tree_tokens:
                    groups.append([])
                    room = most - takes
                groups[-1].append(number)
        return groups

    def _packs(
        self, groups: Sequence[list[int]], rows: Sequence[list[int]], most_tokens: int
    ) -> Iterator[list[list[int]]]:
        """Groups whose answers grow side by side, within the budget."""
        pack: list[list[int]] = []
        tokens = count = 0
        full = False
        for group in groups:
            stem = common_length([rows[number] for number in group])
            longest = max(len(rows[number]) for number in group) + most_tokens
            takes = stem + sum(len(rows[number]) - stem + most_tokens for number in group)
            tokens, count = tokens + takes, count + len(group)
            alone = longest > self._tree_tokens
            large = tokens > self.token_budget or tokens * count > _CELLS
            if pack and (full or alone or large):
                yield pack
                pack, tokens, count = [], takes, len(group)
            pack.append(group)
            full = alone
        if pack:
            yield pack

    def _grow(self, trees: Sequence[TokenTree], answers: Sequence[GrowingAnswer]) -> None:
        """Let the answers to the rows of trees grow until all are over."""
        read: list[tuple[Tensor, Cache]] = []
        for tree in trees:
            ends = sorted({path[-1] for path in tree.paths})
            logits, cache = self._reader.read(tree, ends)
            read.append((logits[[ends.index(path[-1]) for path in tree.paths]], cache))
        for answer, logits in zip(answers, torch.cat([logits for logits, _ in read]), strict=True):
            if not answer.over:
                answer.take(logits)
        branches = Branches(self._reader, trees, [cache for _, cache in read])
        while rows := [row for row, answer in enumerate(answers) if not answer.over]:
            grown = branches.grow(rows, [answers[row].ids[-1] for row in rows])
            for row, logits in zip(rows, grown, strict=True):
                answers[row].take(logits)


def _finished(growing: GrowingAnswer, prompt_tokens: int, seconds: float, limits: AnswerLimits) -> Answer:
    counted = limits.count > 1  # such an answer is whole by its mask
    if limits.allowed and not counted and growing.text not in {text.strip() for text in limits.allowed}:
        error = f"{growing.text[:80]!r} came out, which is none of the {len(limits.allowed)} allowed texts"
        return Answer("", prompt_tokens, len(growing.ids), seconds, error)
    return Answer(growing.text, prompt_tokens, len(growing.ids), seconds, log_likelihood=growing.log_likelihood)
