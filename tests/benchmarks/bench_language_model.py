"""Queries a second of a local language model against the same prompts one by one through transformers' generate.

    python -m tests.benchmarks.bench_language_model

Few-shot prompts of random numbers, as the classification tasks write them, free greedy answers that end at a line's
end; each shape of `shapes` in a table of its own. Without --model it is the installed SmolLM2-135M-Instruct.
"""

import argparse
from dataclasses import asdict

import torch

from spae.incontext import AnswerLimits, Prompt, TransformersModel
from tests.benchmarks.bench import Contestant, print_table, timed, write_json
from tests.spae.incontext.prompts_of_numbers import few_shot_prompts
from tests.tiny_causal import smollm2

Asked = list[list[Prompt]]
"""Prompts, by calls of `answer`."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="folder, hub id or .gguf file")
    parser.add_argument("--supports", type=int, default=2)
    parser.add_argument("--queries", type=int, default=8, help="of a support")
    parser.add_argument("--shots", type=int, default=5, help="examples of each of four names")
    parser.add_argument("--most-tokens", type=int, default=7)
    parser.add_argument("--shapes", nargs="+", help="some of the tables, by the beginning of their names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--output", default="runs/bench/language_model.json")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    model = TransformersModel(options.model or smollm2(), device=options.device)
    limits = AnswerLimits(most_tokens=options.most_tokens)
    ends, tables = line_ends(model), {}
    for shape, asked in shapes(options.supports, options.queries, options.shots).items():
        if options.shapes and not shape.startswith(tuple(options.shapes)):
            continue
        prompts = [prompt for call in asked for prompt in call]

        def generated(prompts: list[Prompt] = prompts) -> list[str]:
            return [generate(model, prompt, limits, ends) for prompt in prompts]

        def answered(asked: Asked = asked) -> list[str]:
            return [answer.text for call in asked for answer in model.answer(call, limits)]

        same = sum(a == b for a, b in zip(answered(), generated(), strict=True))
        runs = {"generate, one by one": generated, "answer": answered}
        rows = timed(
            {name: Contestant(run, len(prompts)) for name, run in runs.items()}, options.rounds, options.device
        )
        tokens = sum(model.count_tokens(prompt.text) for prompt in prompts) // len(prompts)
        title = f"{shape}: {len(prompts)} queries of {tokens} tokens, {same} answers equal"
        print_table(f"{model.name}, {options.device}, {title}", rows, "queries")
        tables[title] = [asdict(row) for row in rows]
    write_json(options.output, model.name, [], **vars(options), tables=tables)


def shapes(supports: int, queries: int, shots: int) -> dict[str, Asked]:
    """The ways of asking, by name; but for the first, a way that leaves little or nothing to share."""
    together = few_shot_prompts(supports, queries, shots)
    apart = few_shot_prompts(supports * queries // 2, 1, shots)
    short = few_shot_prompts(supports * queries, 1, 0)
    return {
        f"{queries} queries a support": [together],
        "1 query a support": [apart],
        "1 query a call": [[prompt] for prompt in apart],
        "unrelated prompts": [[Prompt("", prompt.text) for prompt in apart]],
        "short prompts": [short],
        "short prompts, 1 a call": [[prompt] for prompt in short],
    }


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
