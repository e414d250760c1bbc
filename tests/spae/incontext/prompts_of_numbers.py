"""Few-shot prompts as the tasks write them, of random numbers."""

import random

from spae.incontext import Prompt
from tests.tiny_causal import NAMES, NUMBERS


def few_shot_prompts(supports: int, queries: int, shots: int = 2, seed: int = 0) -> list[Prompt]:
    """Prompts of `queries` queries a support, which are their shared text."""
    draw = random.Random(seed)
    prompts = []
    for _ in range(supports):
        classes = draw.sample(NUMBERS, len(NAMES))
        shared = f"For each of the following input output pairs, output is one of {NAMES}\n"
        pairs = [pair for pair in zip(classes, NAMES, strict=True) for _ in range(shots)]
        draw.shuffle(pairs)
        for number, name in pairs:
            shared += f"###\nInput: {_picture(draw, number)}\nOutput: {name}\n"
        asked = [_picture(draw, draw.choice(classes)) for _ in range(queries)]
        prompts += [Prompt(shared, f"###\nInput: {words}\nOutput:") for words in asked]
    return prompts


def _picture(draw: random.Random, number: str) -> str:
    return " ".join([number, *(draw.choice([number, *NUMBERS]) for _ in range(draw.randint(2, 5)))])
