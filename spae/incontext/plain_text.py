"""Texts as they stand in prompts, and as answers are compared; needs nothing else, so that `jobs.harness` hands it on.

Whatever is written into a prompt is one line of printable text: prompts are built of lines, so that no word, caption or
class name can add one of its own.
"""

_QUOTES = "'\"`<>[](){}.,;:!?"  # what language models put around a word


def one_line(text: str) -> str:
    """The text without line breaks and control characters, its white space single blanks."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def bare(text: str) -> str:
    """A word or name as answers are compared: lower case, without quotes and punctuation around it."""
    return one_line(text).strip(_QUOTES + " ").casefold()
