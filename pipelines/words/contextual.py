"""What a model itself makes of each word alone: the state of one of its layers."""

import logging
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipelines.words.tokens import RowsError, RowSource

WORDS_PER_BATCH = 64
ONE_DIRECTION = 0.98
"""Mean cosine between words above which a layer says next to nothing of them."""
_LAYER = "layer:"

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]
logger = logging.getLogger(__name__)


class ContextualRows(RowSource):
    """The hidden state of a layer at a word's token, the word alone between the model's own special tokens.

    The token itself is given, not its text, so that nothing is tokenised anew and the mean over a word's tokens is it.

    Args:
        name: of the model, for messages.
        load: gives model (float32) and tokenizer.
        layer: whose state; 0 is what enters the first layer, which is the input embeddings where a model adds nothing
            to them, the number of layers and None are the last hidden state.
        before: text between the special tokens and the word. Many decoders put no special token first, and turn
            whatever is first into one direction (measured in docs/vocabulary.md).
    """

    on_demand = True

    def __init__(self, name: str, load: Callable[[], Loaded], layer: int | None = None, before: str = "") -> None:
        self.name, self.load, self.layer, self.before = name, load, layer, before
        state = "last hidden state" if layer is None else f"hidden state of layer {layer}"
        self.source = f"{state} of each word {f'after {before!r}' if before else 'alone'}"

    def estimate(self, words: Sequence[str]) -> str:
        """How many words the model has to run on."""
        return f"{len(words)} words to run {self.name} on"

    def release(self) -> None:
        """Free the model."""
        self.__dict__.pop("_loaded", None)

    @torch.inference_mode()
    def rows(self, words: Sequence[str], tokens: Sequence[int]) -> Tensor:
        """Hidden states float32 (K, C); RowsError where the model cannot be loaded or has another tokenizer."""
        try:
            model, tokenizer = self._loaded
            before, after = _specials(tokenizer, words[0])
            before += tokenizer(self.before, add_special_tokens=False)["input_ids"]
            size = model.get_input_embeddings().weight.shape[0]
        except Exception as error:  # transformers raises nearly anything for files that do not fit
            raise RowsError(f"{self.name} is no model that transformers can run: {error}") from error
        if max(tokens) >= size:
            raise RowsError(f"{self.name}: token {max(tokens)} is beyond the model's {size} embeddings")
        parts = []
        for start in range(0, len(tokens), WORDS_PER_BATCH):
            batch = [[*before, token, *after] for token in tokens[start : start + WORDS_PER_BATCH]]
            made = model(input_ids=torch.tensor(batch), output_hidden_states=self.layer is not None)
            state = made.last_hidden_state if self.layer is None else made.hidden_states[self.layer]
            parts.append(state[:, len(before)].clone())
        rows = torch.cat(parts)
        if len(rows) > 1 and float(normalize(rows, dim=1).mean(0).square().sum()) > ONE_DIRECTION:
            logger.warning("%s: all words have nearly one direction; --embeddings-before may help", self.source)
        return rows

    @cached_property
    def _loaded(self) -> Loaded:
        model, tokenizer = self.load()
        return model.eval(), tokenizer


def choose_layer(embeddings_from: str, layers: int) -> int | None:
    """Number of a layer:N of a model of so many, None of contextual; ValueError where there is no such layer."""
    if not embeddings_from.startswith(_LAYER):
        return None
    layer = int(embeddings_from.removeprefix(_LAYER))
    if layer > layers:
        raise ValueError(f"--embeddings-from {embeddings_from}: the model has layers 0 to {layers}")
    return layer


def _specials(tokenizer: PreTrainedTokenizerBase, word: str) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after a text."""
    encoded = tokenizer(word, return_special_tokens_mask=True)
    ids, mask = encoded["input_ids"], encoded["special_tokens_mask"]
    first, last = mask.index(0), len(mask) - mask[::-1].index(0)
    return ids[:first], ids[last:]
