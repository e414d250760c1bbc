"""The words of a language model: its tokens as text, filtered, with their input embeddings.

Everything is read from a Hugging Face folder (or a hub id) without loading the model: the tokenizer, and one tensor of
its safetensors files. Each token that is not kept is counted by its reason.
"""

import hashlib
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from spae.table import norm_outliers

EMBEDDING_TENSORS = (
    "word_embeddings.weight",  # BERT and kin, BLOOM, Falcon
    "embed_tokens.weight",  # LLaMA, Mistral, Qwen, Gemma, OPT
    "wte.weight",  # GPT-2
    "embed_in.weight",  # GPT-NeoX
    "shared.weight",  # T5
    "tok_embeddings.weight",  # ModernBERT, InternLM
)
"""Ends of the names that model families give their input embeddings."""

_PLACEHOLDER = re.compile(r"\[unused\d+\]|<\|.*\|>|<[^<>\s]*(unused|reserved|extra_id|pad)[^<>\s]*>", re.IGNORECASE)
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SMALL_FILES = ["*.json", "*.txt", "*.model"]


@dataclass(frozen=True)
class LanguageModel:
    """A language model as far as its words go: the text of each token, and one row of embeddings a token."""

    name: str
    revision: str
    embeddings_source: str
    texts: Mapping[int, str]
    """Text of each token by id, with a leading space where a word begins."""
    reasons: Mapping[int, str]
    """Why a token has no text, by id: special, empty, not printable, invalid UTF-8."""
    rows: Tensor
    """Input embeddings (V, C) as they are stored."""


@dataclass(frozen=True, kw_only=True)
class WordFilter:
    """Which tokens become words."""

    pattern: str = ""
    """Regular expression that a whole word must match; empty takes all."""
    whole: bool = False
    """Leave out tokens that only continue a word, such as ##ing."""
    max_words: int | None = None
    """Keep the first words in token order, which is by frequency in most vocabularies."""
    include: tuple[str, ...] = ()
    """Words kept whatever their rank, pattern and length."""

    def __post_init__(self) -> None:
        if self.max_words is not None and self.max_words < max(1, len(set(self.include))):
            raise ValueError(
                f"max_words={self.max_words} must be at least 1 and hold the {len(self.include)} to include"
            )
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"word pattern {self.pattern!r} is no regular expression: {error}") from error


@dataclass(frozen=True)
class Words:
    """The words kept, in token order, and how many tokens went for which reason."""

    words: tuple[str, ...]
    llm_ids: Tensor
    rows: Tensor
    """Their input embeddings float32 (K, C)."""
    dropped: Mapping[str, int]


def read_language_model(name: str, revision: str | None = None, tensor: str | None = None) -> LanguageModel:
    """Read tokens and input embeddings.

    Args:
        name: a folder, a hub id, or an installed package that ships its model in model/.
        revision: branch, tag or commit of a hub id.
        tensor: name of the input embeddings, where it cannot be guessed.

    Raises:
        ValueError: no usable tokenizer or embeddings, or they do not belong together.
    """
    folder, commit = _find_folder(name, revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        texts, reasons = _decode(tokenizer)
    except Exception as error:  # whatever a tokenizer's files can break in transformers, tokenizers and sentencepiece
        reason = " ".join(str(error).split()) or repr(error)
        raise ValueError(f"{name} has no usable tokenizer: {reason}") from error
    source, rows = _read_embeddings(name, folder, tensor, commit)
    _check_match(name, {**texts, **reasons}, rows)
    revision = commit or f"sha256:{hashlib.sha256(rows.view(torch.uint8).numpy().tobytes()).hexdigest()}"
    return LanguageModel(name if commit else folder_name(folder), revision, source, texts, reasons, rows)


def folder_name(folder: Path) -> str:
    """What a local folder's model is called: its last name that says something."""
    parts = [part for part in folder.resolve().parts if part not in ("model", "/")]
    return parts[-1]


def choose_words(model: LanguageModel, rules: WordFilter) -> Words:
    """Filter tokens to words; kept and dropped add up to the rows of the embeddings."""
    dropped = Counter(model.reasons.values())
    dropped["row without token"] = len(model.rows) - len(model.texts) - len(model.reasons)
    pattern = re.compile(rules.pattern or r"(?s:.*)")
    wanted, first = frozenset(rules.include), dict[str, int]()
    for token, text in sorted(model.texts.items()):
        word = text.strip()
        if rules.whole and text == word:
            dropped["continues a word"] += 1
        elif word in first:
            dropped["duplicate"] += 1
        elif word in wanted or pattern.fullmatch(word):
            first[word] = token
        else:
            dropped["word pattern"] += 1
    if absent := sorted(wanted - set(first)):
        raise ValueError(f"--include {' '.join(absent)}: no token of {model.name} is that word by itself")
    return _cut(model, rules, wanted, first, dropped)


def _cut(
    model: LanguageModel, rules: WordFilter, wanted: frozenset[str], first: Mapping[str, int], dropped: Counter[str]
) -> Words:
    """Drop norm outliers, then keep the first words and the wanted ones."""
    if not first:
        raise ValueError(f"no token of {model.name} becomes a word (pattern {rules.pattern!r}): {dict(dropped)}")
    words, ids = list(first), torch.tensor(list(first.values()))
    rows = model.rows[ids].float()
    if not bool(torch.isfinite(rows).all()):
        row = int((~torch.isfinite(rows).all(1)).nonzero()[0])
        raise ValueError(f"{model.embeddings_source}: the row of token {int(ids[row])} {words[row]!r} is not finite")
    forced = torch.tensor([word in wanted for word in words])
    outlier = norm_outliers(rows) & ~forced
    dropped["norm outlier"] = int(outlier.sum())
    kept = ~outlier
    if rules.max_words is not None:
        free = kept & ~forced
        room = max(0, rules.max_words - int(forced.sum()))
        kept &= forced | (free.cumsum(0) <= room)
        dropped["beyond max_words"] = len(words) - int(outlier.sum()) - int(kept.sum())
    chosen = [word for word, keep in zip(words, kept.tolist(), strict=True) if keep]
    return Words(tuple(chosen), ids[kept], rows[kept], {reason: n for reason, n in dropped.items() if n})


def _decode(tokenizer: PreTrainedTokenizerBase) -> tuple[dict[int, str], dict[int, str]]:
    """Text of the tokens by id, and the reason for each that has none."""
    vocabulary = {token: text for text, token in tokenizer.get_vocab().items()}
    added = {token for token, text in tokenizer.added_tokens_decoder.items() if text.special}
    special = added | set(tokenizer.all_special_ids)
    to_text = _decoder(json.loads(tokenizer.backend_tokenizer.to_str()))
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    for token, raw in vocabulary.items():
        if token in special or _PLACEHOLDER.fullmatch(raw):
            reasons[token] = "special"
            continue
        try:
            text = to_text(raw)
        except UnicodeError:
            reasons[token] = "invalid UTF-8"
            continue
        if text.strip() and text.strip().isprintable():
            texts[token] = text
        else:
            reasons[token] = "not printable" if text.strip() else "empty"
    return texts, reasons


def _decoder(tokenizer: Mapping[str, Any]) -> Callable[[str], str]:
    """How this kind of tokenizer's tokens become text, a leading space where a word begins.

    The function raises UnicodeError where a token's bytes are no text by themselves.
    """
    model = tokenizer["model"]
    if model["type"] == "WordPiece":
        prefix = model["continuing_subword_prefix"]
        return lambda token: token.removeprefix(prefix) if token.startswith(prefix) else f" {token}"
    suffix = model.get("end_of_word_suffix") or ""
    if "ByteLevel" not in _kinds(tokenizer.get("decoder")):
        return lambda token: _from_piece(_unsuffixed(token, suffix))
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}

    def from_bytes(token: str) -> str:
        if not set(token) <= byte_of.keys():  # an added token, which is stored as plain text
            return token
        return bytes(byte_of[character] for character in token).decode()

    return lambda token: _unsuffixed(from_bytes(token), suffix)


def _from_piece(token: str) -> str:
    if byte := _BYTE.fullmatch(token):
        return bytes([int(byte[1], 16)]).decode()
    return token.replace("▁", " ")


def _unsuffixed(token: str, suffix: str) -> str:
    """A token that ends a word, in vocabularies that mark the end instead of the beginning, stands for a whole word."""
    return f" {token.removesuffix(suffix)}" if suffix and token.endswith(suffix) else token


def _kinds(decoder: Mapping[str, Any] | None) -> set[str]:
    if decoder is None:
        return set()
    return {decoder["type"]}.union(*[_kinds(part) for part in decoder.get("decoders", [])])


def _find_folder(name: str, revision: str | None) -> tuple[Path, str]:
    """The folder with the tokenizer, and the commit if it comes from the hub."""
    if Path(name).is_dir():
        return Path(name), ""
    package = importlib.util.find_spec(name) if name.isidentifier() else None
    if package and package.submodule_search_locations:
        return Path(package.submodule_search_locations[0]) / "model", ""
    try:
        folder = Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=_SMALL_FILES))
    except Exception as error:  # the hub's client raises its own, HTTP's and the disk's errors
        raise ValueError(f"--llm {name}: no such folder or package, and not to be had from the hub: {error}") from error
    return folder, folder.name


def _read_embeddings(name: str, folder: Path, tensor: str | None, commit: str) -> tuple[str, Tensor]:
    """Name and rows of the input embeddings, from one file or from the one of several that holds them."""

    def path(file: str) -> Path:
        return Path(huggingface_hub.hf_hub_download(name, file, revision=commit)) if commit else folder / file

    try:
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            places: dict[str, str] = json.loads(index.read_text())["weight_map"]
        else:
            with safe_open(path("model.safetensors"), "pt") as file:
                places = dict.fromkeys(file.keys(), "model.safetensors")
        found = _choose_tensor(places, tensor)
        with safe_open(path(places[found]), "pt") as file:
            rows = file.get_tensor(found)
    except Exception as error:  # safetensors, the hub and JSON have errors of their own
        raise ValueError(
            f"{name} has no input embeddings that can be read: {error}. Needed are model.safetensors, or "
            "model.safetensors.index.json and its files; other formats can be converted with transformers"
        ) from error
    if rows.ndim != 2 or not rows.is_floating_point():
        raise ValueError(f"{name}: {found} is {rows.dtype} {tuple(rows.shape)}, not a table of embeddings")
    return found, rows


def _choose_tensor(names: Sequence[str] | Mapping[str, str], wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in names:
            raise ValueError(f"no tensor {wanted!r} among {', '.join(sorted(names)[:20])}")
        return wanted
    for end in EMBEDDING_TENSORS:
        if matches := [name for name in names if name == end or name.endswith(f".{end}")]:
            return min(matches, key=len)
    raise ValueError(f"no tensor is called {', '.join(EMBEDDING_TENSORS)}; name it with --embeddings-tensor")


def _check_match(name: str, tokens: Mapping[int, str], rows: Tensor) -> None:
    if max(tokens) >= len(rows) or len(tokens) < len(rows) / 2:
        raise ValueError(
            f"{name}: the tokenizer has {len(tokens)} tokens with ids up to {max(tokens)}, but the embeddings have "
            f"{len(rows)} rows; tokenizer and weights are of different models"
        )
