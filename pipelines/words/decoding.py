"""How the tokens of Hugging Face's tokenizers become the text that the model would print.

A leading space marks where a word begins. Byte-level BPE spells bytes as characters, SentencePiece marks spaces and
spells lone bytes as <0xE4>, WordPiece marks what continues a word, older BPE what ends one.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from pipelines.words.tokens import sort_texts

PLACEHOLDER = re.compile(
    r"\[(unused|pad)\d+\]|<\|.*\|>|<[^<>\s]*(unused|reserved|extra_id|pad)[^<>\s]*>", re.IGNORECASE
)
"""Tokens that stand for no text whether a tokenizer calls them special or not."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}


def decode_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[dict[int, str], dict[int, str]]:
    """Text of the tokens by id, most frequent first, and the reason for each that has none."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    added = tokenizer.added_tokens_decoder
    special = {token for token, text in added.items() if text.special} | set(tokenizer.all_special_ids)
    to_text, plain = _decoder(backend), backend["model"]["type"] != "WordPiece"
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    for raw, token in sorted(tokenizer.get_vocab().items(), key=_rank(backend["model"])):
        if token in special or PLACEHOLDER.fullmatch(raw):
            reasons[token] = "special"
            continue
        try:
            texts[token] = raw if plain and token in added else to_text(raw)  # added tokens are stored as plain text
        except UnicodeError:
            reasons[token] = "invalid UTF-8"
    return sort_texts(texts, reasons)


def decode_piece(token: str) -> str:
    """Text of a SentencePiece token; UnicodeError where it is a byte that is no text by itself."""
    if byte := _BYTE.fullmatch(token):
        return bytes([int(byte[1], 16)]).decode()
    return token.replace("▁", " ")


def _rank(model: Mapping[str, Any]) -> Callable[[tuple[str, int]], tuple[float, int]]:
    """Sort key of (token, id): by falling log-probability where the model has one, else by id, the order of merges."""
    scores = dict(model["vocab"]) if model["type"] == "Unigram" else {}
    return lambda item: (-scores.get(item[0], 0.0), item[1])


def _decoder(tokenizer: Mapping[str, Any]) -> Callable[[str], str]:
    """How this kind of tokenizer's tokens become text; the function raises UnicodeError where there is none."""
    model = tokenizer["model"]
    if model["type"] == "WordPiece":
        prefix = model["continuing_subword_prefix"]
        return lambda token: token.removeprefix(prefix) if token.startswith(prefix) else f" {token}"
    suffix = model.get("end_of_word_suffix") or ""
    to_text = _from_bytes if "ByteLevel" in _kinds(tokenizer.get("decoder")) else decode_piece

    def decode(token: str) -> str:
        if suffix and token.endswith(suffix):  # vocabularies that mark the end of a word instead of its beginning
            return f" {to_text(token.removesuffix(suffix))}"
        return to_text(token)

    return decode


def _from_bytes(token: str) -> str:
    if not set(token) <= _BYTE_OF.keys():  # stored as plain text
        return token
    return bytes(_BYTE_OF[character] for character in token).decode()


def _kinds(decoder: Mapping[str, Any] | None) -> set[str]:
    if decoder is None:
        return set()
    return {decoder["type"]}.union(*[_kinds(part) for part in decoder.get("decoders", [])])
