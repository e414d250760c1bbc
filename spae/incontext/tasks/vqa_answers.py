"""Answers as VQAv2's evaluation compares them.

The rules are those of `vqaEval.py` in GT-Vision-Lab/VQA: lower case, numbers as digits, no articles, no punctuation.
Its table of contractions ("dont" is "don't") is replaced by leaving out all apostrophes.
"""

import re

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGITS = {
    word: str(digit)
    for digit, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
_ARTICLES = ("a", "an", "the")


def normalised_answer(text: str) -> str:
    """The answer that a text is, in one line."""
    text = " ".join(text.lower().split())
    in_number = re.search(r"\d,\d", text) is not None
    plain = text
    for mark in _PUNCTUATION:  # a mark beside a blank goes, one between letters parts two words
        beside = f"{mark} " in text or f" {mark}" in text or in_number
        plain = plain.replace(mark, "" if beside else " ")
    plain = re.sub(r"\.(?!\d)", "", plain).replace("'", "")
    return " ".join(_DIGITS.get(word, word) for word in plain.split() if word not in _ARTICLES)
