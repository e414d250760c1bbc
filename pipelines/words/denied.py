"""Words that no picture shall be called: the paper notes slurs among the tokens of language models."""

import hashlib
from importlib import resources

from pipelines.words.tokens import read_small_file

DEFAULT, NONE = "default", "none"
_MARK = "sha256:"


class DeniedWords:
    """A set of words, compared by casefold.

    Args:
        lines: a word a line in clear or as `sha256:` and the hash of its casefolded UTF-8; # begins a comment.

    Raises:
        ValueError: a line holds a hash that is none.
    """

    def __init__(self, lines: str) -> None:
        hashes: set[str] = set()
        for line in lines.splitlines():
            word = line.strip()
            if not word or word.startswith("#"):
                continue
            digest = word.removeprefix(_MARK) if word.startswith(_MARK) else _digest(word)
            if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise ValueError(f"{word!r} in a list of denied words is no sha256; give the word or its hash")
            hashes.add(digest)
        self.hashes = frozenset(hashes)

    def __contains__(self, word: object) -> bool:
        """Whether a word is denied."""
        return bool(self.hashes) and isinstance(word, str) and _digest(word) in self.hashes

    @property
    def sha256(self) -> str:
        """Over all hashes; equal where the same words are denied, empty where none are."""
        return hashlib.sha256("\n".join(sorted(self.hashes)).encode()).hexdigest() if self.hashes else ""


def read_denied(name: str) -> DeniedWords:
    """The list that comes with this package (default), none, or a file."""
    if name == NONE:
        return DeniedWords("")
    if name == DEFAULT:
        return DeniedWords(resources.files("pipelines.words").joinpath("denied.txt").read_text("ascii"))
    try:
        return DeniedWords(read_small_file(name, "--deny").decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"--deny {name} is not UTF-8: {error}") from error


def _digest(word: str) -> str:
    return hashlib.sha256(word.casefold().encode()).hexdigest()
