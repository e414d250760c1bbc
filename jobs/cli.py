"""The `spae` command: every stage by its short name."""

import importlib
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A stage: the module whose `main` runs it, the extra that installs what it needs (none: ""), what it does."""

    module: str
    extra: str
    purpose: str


COMMANDS = {
    "encode": Command("jobs.encode", "", "print the words of pictures, and rebuild them"),
    "ask": Command("jobs.ask", "llm", "ask a language model about a picture, told as words"),
    "images": Command("pipelines.images", "beam", "shard images into WebDataset tars"),
    "videos": Command("pipelines.videos", "beam", "shard videos, whole or as clips, into WebDataset tars"),
    "verify": Command("pipelines.verify", "beam", "check a split of shards, and mend it"),
    "vocabulary": Command("pipelines.vocabulary", "beam", "make a vocabulary of a language model's words"),
    "train": Command("jobs.train", "ray", "train a tokenizer"),
    "export": Command("jobs.export", "ray", "write a model folder from a run"),
    "tokenize": Command("jobs.tokenize_shards", "ray", "turn shards into token tables"),
    "verify-tokens": Command("jobs.verify_tokens", "ray", "check token tables"),
    "remove-samples": Command("jobs.remove_samples", "ray", "take samples out of token tables"),
    "reconstruct": Command("jobs.reconstruct_shards", "ray", "turn token tables back into shards of pictures"),
    "evaluate": Command("jobs.evaluate", "ray", "score a model on a split"),
    "judges": Command("jobs.judges", "ray", "tell which networks that measure pictures are here, and fetch them"),
    "incontext": Command("jobs.incontext", "ray", "let a frozen language model read the words of pictures"),
    "tune": Command("jobs.tune_language_model", "tuning", "let a language model learn the words of pictures"),
    "harness": Command("jobs.harness", "ray", "write the same questions as a task folder of lm-eval"),
    "reproduce": Command("jobs.reproduce", "ray", "make a table or figure of the paper again"),
    "ablate": Command("jobs.ablate", "ray", "train and score the rows of the ablation table"),
    "report": Command("jobs.report", "ray", "show words and reconstructions"),
    "demo": Command("jobs.demo", "demo", "the whole way on handwritten digits"),
    "demo-full": Command("jobs.demo_full", "demo", "the whole objective with three seeds, after demo"),
    "demo-video": Command("jobs.demo_video", "demo", "a video model of digits that move, after demo"),
}


def main() -> int:
    """Run a stage by name; its exit status, or 2 where there is no such stage or it is not installed."""
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0
    if name not in COMMANDS:
        sys.stderr.write(f"spae: there is no stage {name!r}\n\n{usage()}")
        return 2
    command = COMMANDS[name]
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        wanted = f"spae[{command.extra}]" if command.extra else "spae"
        sys.stderr.write(f"spae {name} needs {error.name!r}, which is not installed: pip install '{wanted}'\n")
        return 2
    return int(module.main(arguments))


def usage() -> str:
    """What `spae --help` prints."""
    rows = "".join(f"  {name:14} {command.purpose}\n" for name, command in COMMANDS.items())
    return f"usage: spae STAGE [FLAGS]\n\n{rows}\n`spae STAGE --help` tells a stage's flags, with an example.\n"


if __name__ == "__main__":
    sys.exit(main())
