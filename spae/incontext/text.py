"""Words as the text of a prompt, and an answer's text as words again."""

from collections.abc import Sequence
from dataclasses import dataclass

from spae.incontext.plain_text import bare as bare
from spae.incontext.plain_text import one_line as one_line
from spae.vocabulary import Vocabulary


@dataclass(frozen=True)
class ParsedWords:
    """Words found in an answer.

    Attributes:
        ids: of the vocabulary, at most as many as were wanted.
        foreign: pieces that are no word of the vocabulary.
        missing: words that were wanted and did not come.
    """

    ids: tuple[int, ...]
    foreign: int
    missing: int


class WordText:
    """A vocabulary's words as text, by the separator that its record names, and back."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        record = vocabulary.record.round_trip
        self.separator, self.start = (record.separator, record.start) if record else (" ", "")
        self.words = tuple(one_line(word) for word in vocabulary.word_list)
        self._ids = {word: number for number, word in reversed(list(enumerate(vocabulary.word_list)))}
        self._bare_ids = {bare(word): number for number, word in reversed(list(enumerate(vocabulary.word_list)))}

    def write(self, ids: Sequence[int]) -> str:
        """One line of text; a separator with a line break in it is written as a blank."""
        separator = self.separator if self.separator.isprintable() else " "
        return separator.join(self.words[number] for number in ids)

    def parse(self, text: str, wanted: int) -> ParsedWords:
        """The words of a text, in order, `wanted` at most: spaces, quotes, case and foreign pieces do not matter."""
        mark = self.separator.strip()
        pieces = (text.replace(mark, " ") if mark else text).split()
        ids, foreign = list[int](), 0
        for piece in pieces:
            found = self._ids.get(piece, self._bare_ids.get(bare(piece)))
            if found is None:
                foreign += 1
            elif len(ids) < wanted:
                ids.append(found)
        return ParsedWords(tuple(ids), foreign, wanted - len(ids))
