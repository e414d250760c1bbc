"""Words of a tokenizer that is one file: a tiktoken encoding, a SentencePiece model, or a plain list."""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sentencepiece
import tiktoken

from pipelines.words.decoding import decode_piece
from pipelines.words.tokens import Tokens, read_small_file, sort_texts


def read_tiktoken(path: str, settings_path: str | None = None) -> Tokens:
    """Tokens of a tiktoken encoding.

    Args:
        path: mergeable ranks as tiktoken publishes them: a token in base64 and its rank a line.
        settings_path: JSON with `special_tokens` (text to id) and `pattern` (the regular expression that parts a text
            before bytes are merged, without which texts cannot be split into tokens).

    Raises:
        ValueError: a file is not of this form, or a rank or token occurs twice.
    """
    data = read_small_file(path, "--llm")
    ranks = _ranks(path, data)
    settings = _settings(settings_path) if settings_path else {}
    special: Mapping[str, int] = settings.get("special_tokens", {})
    if clash := set(special.values()) & set(ranks.values()):
        raise ValueError(f"{settings_path}: special token id {min(clash)} is a rank of {path} too")
    texts, reasons = {}, dict.fromkeys(special.values(), "special")
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        try:
            texts[rank] = token.decode()
        except UnicodeDecodeError:
            reasons[rank] = "invalid UTF-8"
    name, pattern = Path(path).stem, settings.get("pattern")
    if not pattern or any(bytes([byte]) not in ranks for byte in range(256)):  # without each byte, texts make it panic
        return Tokens(name, _revision(data), *sort_texts(texts, reasons))
    try:
        encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=dict(special))
    except (ValueError, TypeError) as error:
        raise ValueError(f"--tiktoken-settings {settings_path}: no encoding with this pattern: {error}") from error
    return Tokens(name, _revision(data), *sort_texts(texts, reasons), encoding.encode_ordinary)


def read_sentencepiece(path: str) -> Tokens:
    """Tokens of a SentencePiece .model file, the most likely first; ValueError where it is none."""
    data = read_small_file(path, "--llm")
    try:
        model = sentencepiece.SentencePieceProcessor(model_proto=data)
        size = model.get_piece_size()
    except Exception as error:  # its C++ raises RuntimeError and more
        raise ValueError(f"--llm {path} is no SentencePiece model: {error}") from error
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    for token in sorted(range(size), key=lambda token: (-model.get_score(token), token)):
        if model.is_control(token) or model.is_unknown(token) or model.is_unused(token):
            reasons[token] = "special"
            continue
        try:
            texts[token] = decode_piece(model.id_to_piece(token))
        except UnicodeDecodeError:
            reasons[token] = "invalid UTF-8"
    return Tokens(Path(path).stem, _revision(data), *sort_texts(texts, reasons), model.encode)


def read_word_list(path: str) -> Tokens:
    """Words of a text file, one a line, most frequent first; with word<TAB>count, sorted by the count.

    The token id of a word is the number of its line, from 0.
    """
    data = read_small_file(path, "--llm")
    lines = _lines(path, data)
    counted = [line.rpartition("\t") for line in lines]
    order = list(range(len(lines)))
    if any(tab for _, tab, _ in counted):
        counts = [_count(path, number, count) for number, (_, _, count) in enumerate(counted)]
        order = sorted(order, key=lambda number: -counts[number])
        lines = [word for word, _, _ in counted]
    return Tokens(Path(path).stem, _revision(data), *sort_texts({row: f" {lines[row].strip()}" for row in order}, {}))


def read_frequencies(path: str) -> dict[str, int]:
    """Count by word, of a file with word<TAB>count a line."""
    counts: dict[str, int] = {}
    for number, line in enumerate(_lines(path, read_small_file(path, "--frequencies"))):
        word, _, count = line.rpartition("\t")
        counts[word.strip()] = counts.get(word.strip(), 0) + _count(path, number, count)
    return counts


def counts_sha256(counts: Mapping[str, int]) -> str:
    """Over words and their counts; empty where there are none."""
    return hashlib.sha256(json.dumps(sorted(counts.items())).encode()).hexdigest() if counts else ""


def _revision(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _lines(path: str, data: bytes) -> list[str]:
    try:
        return data.decode("utf-8-sig").removesuffix("\n").split("\n")  # splitlines would part words at rare separators
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from error


def _count(path: str, number: int, count: str) -> int:
    if not (count.strip().isdecimal() and len(count) < 20):
        raise ValueError(f"{path} line {number + 1}: {count[:40]!r} is no count; give word<TAB>count on every line")
    return int(count)


def _ranks(path: str, data: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise ValueError(f"--llm {path} line {number} is not a token in base64 and its rank") from error
    lines = sum(1 for line in data.splitlines() if line)
    if not ranks or len(set(ranks.values())) != lines or min(ranks.values()) < 0:
        raise ValueError(f"--llm {path}: {lines} lines must hold tokens and ranks from 0 on, each once")
    return ranks


def _settings(path: str) -> dict[str, Any]:
    try:
        values = json.loads(read_small_file(path, "--tiktoken-settings"))
        special = values.get("special_tokens", {})
        if set(values) <= {"pattern", "special_tokens"} and all(isinstance(token, int) for token in special.values()):
            return dict(values)
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"--tiktoken-settings {path} cannot be used: {error}") from error
    raise ValueError(f"--tiktoken-settings {path} may hold pattern and special_tokens (text to id) alone")
