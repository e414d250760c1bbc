"""Prompt features of words against open_clip's own text encoding, which pads every prompt to the full context.

    python -m tests.benchmarks.bench_prompt_features

The text tower is ViT-L-14's with random weights. open_clip's time for a prompt does not depend on the prompt: it gets
an even sample of the same prompts, all of them with `--sample 0`, and on the sample both are compared. Both tokenize.
"""

import argparse
import random

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer

from spae.clip import imagenet_templates, prompt_features
from spae.clip.text_tower import encode_prompts
from tests.benchmarks.bench import Contestant, print_table, timed, write_json
from tests.tiny_models import VISION


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="ViT-L-14", help="open_clip's name of the text tower")
    parser.add_argument("--words", type=int, default=64)
    parser.add_argument("--templates", type=int, default=80, help="how many of ImageNet's")
    parser.add_argument("--sample", type=int, default=64, help="prompts for open_clip; 0: all")
    parser.add_argument("--batch", type=int, default=256, help="prompts at once")
    parser.add_argument("--padded-batch", type=int, default=32, help="the same for open_clip")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--output", default="runs/bench/prompt_features.json")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    model, tokenizer = text_tower(options.model).to(options.device), SimpleTokenizer()
    words, templates = sample_words(tokenizer, options.words), imagenet_templates()[: options.templates]
    prompts = [template.replace("{}", word) for word in words for template in templates]
    step = max(1, len(prompts) // options.sample) if options.sample else 1
    sample = prompts[::step]

    @torch.no_grad()
    def padded() -> torch.Tensor:
        batches = tokenizer(sample).to(options.device).split(options.padded_batch)
        return torch.cat([model.encode_text(batch, normalize=True).cpu() for batch in batches])

    def ours() -> torch.Tensor:
        return prompt_features(model, tokenizer, words, templates, options.batch)

    template_of = torch.arange(len(prompts)) % len(templates)
    error = (encode_prompts(model, tokenizer(prompts), template_of, options.batch)[::step] - padded()).norm(dim=1).max()
    contestants = {"open_clip, padded": Contestant(padded, len(sample)), "spae": Contestant(ours, len(prompts))}
    rows = timed(contestants, options.rounds, options.device)
    lengths = [len(tokenizer.encode(word)) for word in words]
    title = f"{options.model}, {len(words)} words in {len(templates)} templates, {options.device}"
    print_table(title, rows, "prompts")
    facts = {"largest_relative_error": float(error), "tokens_a_word": sum(lengths) / len(lengths)}
    write_json(options.output, title, rows, **vars(options), **facts)


def text_tower(name: str) -> open_clip.CLIP:
    """The text tower of an open_clip model with random weights, beside a vision tower of no weight."""
    config = open_clip.get_model_config(name)
    torch.manual_seed(0)
    quick = config.get("quick_gelu", False)
    return open_clip.CLIP(config["embed_dim"], VISION, config["text_cfg"], quick).eval().requires_grad_(False)


def sample_words(tokenizer: SimpleTokenizer, count: int) -> list[str]:
    """Words of letters from the tokenizer's vocabulary; those that were pieces of words have two tokens or three."""
    pieces = sorted({piece.removesuffix("</w>") for piece in tokenizer.encoder})
    return random.Random(0).sample([piece for piece in pieces if piece.isascii() and piece.isalpha()], count)


if __name__ == "__main__":
    main()
