"""Queries a second of a local language model against the same prompts one by one through transformers' generate.

    python -m tests.benchmarks.bench_language_model

Few-shot prompts of random numbers, as the classification tasks write them, free greedy answers that end at a line's
end. The same prompts are asked with the support shared, and each as a support of its own. Without --model it is the
installed SmolLM2-135M-Instruct.
"""

import argparse

import torch

from spae.incontext import AnswerLimits, Prompt, TransformersModel
from tests.benchmarks.bench import Contestant, print_table, timed, write_json
from tests.spae.incontext.prompts_of_numbers import few_shot_prompts
from tests.tiny_causal import smollm2


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="folder, hub id or .gguf file")
    parser.add_argument("--supports", type=int, default=2)
    parser.add_argument("--queries", type=int, default=8, help="of a support")
    parser.add_argument("--shots", type=int, default=5, help="examples of each of four names")
    parser.add_argument("--most-tokens", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--output", default="runs/bench/language_model.json")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    model = TransformersModel(options.model or smollm2(), device=options.device)
    prompts = few_shot_prompts(options.supports, options.queries, options.shots)
    limits = AnswerLimits(most_tokens=options.most_tokens)
    apart = [Prompt(prompt.text, "") for prompt in prompts]
    ends = line_ends(model)

    def generated() -> list[str]:
        return [generate(model, prompt, limits, ends) for prompt in prompts]

    same = sum(a.text == b for a, b in zip(model.answer(prompts, limits), generated(), strict=True))
    contestants = {
        "generate, one by one": Contestant(generated, len(prompts)),
        "a support a query": Contestant(lambda: model.answer(apart, limits), len(prompts)),
        f"{options.queries} queries a support": Contestant(lambda: model.answer(prompts, limits), len(prompts)),
    }
    rows = timed(contestants, options.rounds, options.device)
    tokens = sum(model.count_tokens(prompt.text) for prompt in prompts) // len(prompts)
    title = f"{model.name}, {len(prompts)} queries of {tokens} tokens, {same} answers equal, {options.device}"
    print_table(title, rows, "queries")
    write_json(options.output, title, rows, **vars(options), equal_answers=same, prompt_tokens=tokens)


def line_ends(model: TransformersModel) -> list[int]:
    """The token ids that end an answer: those of an end, and those that hold a line's end."""
    words = model._reader.model.config.get_text_config().vocab_size
    return [*model._ends, *(token for token in range(words) if "\n" in model._tokens.text([token]))]


def generate(model: TransformersModel, prompt: Prompt, limits: AnswerLimits, ends: list[int]) -> str:
    """The greedy answer of transformers' own loop."""
    ids = torch.tensor([model._tokens.ids(prompt.text)], device=model._reader.model.device)
    options = {"max_new_tokens": limits.most_tokens, "do_sample": False, "eos_token_id": ends}
    with torch.inference_mode():
        out = model._reader.model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    return model._tokens.text(out[0, ids.shape[1] :].tolist()).split("\n")[0].strip()


if __name__ == "__main__":
    main()
