"""What a model itself makes of each word alone: its last hidden state."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from pipelines.words.tokens import RowsError, RowSource

WORDS_PER_BATCH = 64


class ContextualRows(RowSource):
    """The last hidden state at a word's token, the word alone between the model's own special tokens.

    The token itself is given, not its text, so that nothing is tokenised anew and the mean over a word's tokens is it.

    Args:
        folder: of a Hugging Face model, weights as safetensors.
    """

    on_demand = True

    def __init__(self, folder: Path) -> None:
        self.folder, self.source = folder, "last hidden state of each word alone"

    def estimate(self, words: Sequence[str]) -> str:
        """How many words the model has to run on."""
        return f"{len(words)} words to run {self.folder} on"

    @torch.inference_mode()
    def rows(self, words: Sequence[str], tokens: Sequence[int]) -> Tensor:
        """Hidden states float32 (K, C); RowsError where the model cannot be loaded or has another tokenizer."""
        try:
            model = AutoModel.from_pretrained(self.folder, use_safetensors=True, dtype=torch.float32).eval()
            before, after = _specials(self.folder, words[0])
            size = model.get_input_embeddings().weight.shape[0]
        except Exception as error:  # transformers raises nearly anything for files that do not fit
            raise RowsError(f"{self.folder} is no model that transformers can run: {error}") from error
        if max(tokens) >= size:
            raise RowsError(f"{self.folder}: token {max(tokens)} is beyond the model's {size} embeddings")
        parts = []
        for start in range(0, len(tokens), WORDS_PER_BATCH):
            batch = [[*before, token, *after] for token in tokens[start : start + WORDS_PER_BATCH]]
            parts.append(model(input_ids=torch.tensor(batch)).last_hidden_state[:, len(before)].clone())
        return torch.cat(parts)


def _specials(folder: Path, word: str) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after a text."""
    encoded = AutoTokenizer.from_pretrained(folder)(word, return_special_tokens_mask=True)
    ids, mask = encoded["input_ids"], encoded["special_tokens_mask"]
    first, last = mask.index(0), len(mask) - mask[::-1].index(0)
    return ids[:first], ids[last:]
