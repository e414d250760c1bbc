"""Text to the token ids of a language model and back; a text is data, whatever marks of the model it spells."""

from collections.abc import Sequence
from typing import Any

from spae.incontext.token_tree import common_length


class TextTokens:
    """A tokenizer of transformers, without anything that it would do to a text beside cutting it.

    Args:
        tokenizer: of the language model.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        begin = tokenizer.bos_token_id
        self._begin = [begin] if begin is not None and tokenizer("").input_ids[:1] == [begin] else []

    def ids(self, text: str) -> list[int]:
        """Token ids of a text from its beginning on, the mark of a beginning first where the model wants one.

        Special marks that the text spells (`<|im_end|>`) are read letter by letter, as any text; half characters, which
        no tokenizer takes, as question marks.
        """
        whole = text.encode(errors="replace").decode()
        return [*self._begin, *self._tokenizer(whole, add_special_tokens=False, split_special_tokens=True).input_ids]

    def behind(self, before: str, text: str) -> list[int]:
        """Token ids of a text that stands behind another, the ids of which stay what they are."""
        alone, whole = self.ids(before), self.ids(before + text)
        if common_length([alone, whole]) == len(alone):
            return whole[len(alone) :]
        return self.ids(text)[len(self._begin) :]

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids, special marks left out."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
