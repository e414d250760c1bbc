"""A small real GGUF file: a Llama of two layers with random weights and a byte-level BPE tokenizer."""

import json
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

WIDTH, LAYERS, HIDDEN = 64, 2, 96
SENTENCES = ["a zero one two three four five six seven eight nine the lion saw the queen and the löwe"] * 9
SPECIALS = ("<|endoftext|>", "<|im_start|>")
CONTROL, UNUSED, NORMAL = 3, 5, 1


def tiny_tokenizer() -> Tokenizer:
    """Its specials first, then bytes, then what the sentences merge to."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=list(SPECIALS))
    )
    return tokenizer


def save_gguf(path: Path, kind: Kind = Kind.Q8_0, tied: bool = True, padding: int = 2) -> np.ndarray:
    """Write the file; the rows of its input embeddings before they were brought to `kind`."""
    model = json.loads(tiny_tokenizer().to_str())["model"]
    tokens = [*sorted(model["vocab"], key=model["vocab"].get), *(f"[PAD{number}]" for number in range(padding))]
    types = [CONTROL if token in SPECIALS else UNUSED if token.startswith("[PAD") else NORMAL for token in tokens]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // 2)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    generator = np.random.default_rng(0)

    def add(name: str, *shape: int, kind: Kind = Kind.F32) -> np.ndarray:
        scale = 1 if name == "token_embd" else WIDTH**-0.5
        values = np.ones(shape) if "norm" in name else generator.normal(scale=scale, size=shape)
        values = values.astype(np.float32)
        writer.add_tensor(f"{name}.weight", gguf.quantize(values, kind), raw_dtype=kind)
        return values

    rows = add("token_embd", len(tokens), WIDTH, kind=kind)
    add("output_norm", WIDTH)
    for layer in range(LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{name}", WIDTH)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{name}", WIDTH, WIDTH, kind=Kind.Q4_0)
        for name, shape in {"gate": (HIDDEN, WIDTH), "up": (HIDDEN, WIDTH), "down": (WIDTH, HIDDEN)}.items():
            add(f"blk.{layer}.ffn_{name}", *shape, kind=Kind.F16)
    if not tied:
        add("output", len(tokens), WIDTH, kind=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return rows
