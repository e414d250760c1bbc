"""Small real models for the tests: open_clip models with random weights, a BERT with a WordPiece vocabulary, digits."""

import hashlib
import json
import string
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers.implementations import BertWordPieceTokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
from webdataset.writer import TarWriter

from spae.data.records import ShardInfo, save_classes, save_index
from spae.data.sources.digits import DigitsSource

VISION = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
CAUSAL_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "cat", "dog", "zero", "one", "two", "three", "seven", "photo", "of", "a", "king", "queen"]


def save_clip(folder: Path, config: dict, seed: int = 0, **preparation) -> str:
    """A random open_clip model in a folder; its `local-dir:` name."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"model_cfg": config, "preprocess_cfg": preparation}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    torch.manual_seed(seed)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def causal_clip(folder: Path, seed: int = 0) -> str:
    """CLIP's own kind: causal text tower of 77 tokens, BPE vocabulary of open_clip."""
    return save_clip(folder, {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": CAUSAL_TEXT}, seed)


def save_bert(folder: Path, words: list[str] = WORDS, seed: int = 0, extra_rows: int = 0) -> Path:
    """A random BERT of width 32 with a WordPiece vocabulary of specials, words, letters and letter pieces."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [letter for letter in string.ascii_lowercase if letter not in words]
    pieces = [f"##{letter}" for letter in string.ascii_lowercase] + ["##s", "##ing"]
    vocabulary = list(dict.fromkeys([*SPECIALS, *words, *letters, *pieces, "."]))
    pieces_by_text = {text: token for token, text in enumerate(vocabulary)}
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    tokenizer = BertWordPieceTokenizer(pieces_by_text)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, **names).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary) + extra_rows,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def hugging_face_clip(folder: Path, bert: Path) -> str:
    """An open_clip model on a Hugging Face text tower, its tokenizer and configuration in the same folder."""
    text = {
        "hf_model_name": str(bert),
        "hf_tokenizer_name": str(bert),
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": None,
        "context_length": 32,
    }
    folder.mkdir(parents=True)
    for file in bert.iterdir():
        if file.suffix in (".json", ".txt"):
            (folder / file.name).write_bytes(file.read_bytes())
    return save_clip(folder, {"embed_dim": 32, "vision_cfg": VISION, "text_cfg": text})


def save_digit_split(folder: Path, split: str, limit: int | None = None) -> str:
    """The real handwritten digits of a split as one shard with its index and class names; the split's folder."""
    source = DigitsSource(split, 0)
    entries = list(source.entries())[:limit]
    folder.mkdir(parents=True)
    tar = folder / f"{split}-000000.tar"
    with tar.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as writer:
        for entry in entries:
            label = str(entry.label).encode()
            writer.write({"__key__": entry.key, "png": source.read(entry, 1 << 20), "cls": label})
    data = tar.read_bytes()
    shard = ShardInfo(str(tar), len(entries), len(data), hashlib.sha256(data).hexdigest())
    save_index(str(folder), split, [shard])
    save_classes(str(folder), source.classes())
    return str(folder)
