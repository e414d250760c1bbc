"""Write the questions of `jobs.incontext` as a task folder of another harness, for any model that it runs.

    python -m jobs.harness --format lm-eval --model runs/demo/model --shards runs/demo/shards/test \\
        --support-shards runs/demo/shards/train --settings 5-way-3-shot --output runs/demo/lm-eval
    lm_eval --model hf --model_args pretrained=FOLDER_OR_ID --include_path runs/demo/lm-eval \\
        --tasks spae_few_shot_made_up

The same flags draw the same episodes as `jobs.incontext`, and the same model gives the same answers and scores there.
Who runs the folder needs lm-eval, and neither spae nor the pictures.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro

from jobs.episodes.task_flags import TaskFlags, make_task
from jobs.harnesses.lm_eval_folder import harness_name, write_task_folder
from jobs.paths import place, place_or_name
from spae import __version__
from spae.incontext.tasks import Task
from spae.model import SPAE

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HarnessFlags(TaskFlags):
    """Which questions, for which harness."""

    format: Literal["lm-eval"] = "lm-eval"
    """lm-eval: the language model evaluation harness of EleutherAI."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where questions cannot be asked, 2 for unusable arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for own in (__name__, "jobs", "spae"):
        logging.getLogger(own).setLevel(logging.INFO)
    try:
        flags = tyro.cli(HarnessFlags, args=arguments, description=__doc__)
        output = place("--output", flags.output)
        model = SPAE.from_pretrained(place_or_name("--model", flags.model), flags.device)
        task = make_task(flags, model)
        protocol = {
            "model_fingerprint": model.fingerprint,
            "words_fingerprint": model.vocabulary.words_fingerprint,
            "form": flags.form,
            "layers": flags.layers,
            "queries": flags.queries,
            "episodes": flags.episodes,
            "seed": flags.seed,
            "code_version": __version__,
            **task.provenance,
        }
        counts = write_task_folder(output, task, _settings(flags, task), flags.episodes, protocol)
    except (ValueError, OSError, RuntimeError) as error:
        logger.error("%s", error)
        return 2
    logger.info("%s: %d questions, %d that cannot be asked; run it by", output, counts.written, counts.errors)
    logger.info("lm_eval --include_path %s --tasks %s --model ...", output, harness_name(task.name))
    return 1 if counts.errors else 0


def _settings(flags: HarnessFlags, task: Task) -> list[str]:
    """Those that can be asked; ValueError for one that cannot and was asked for by its name."""
    found = []
    for setting in flags.chosen(task.settings):
        try:
            for number in (0, flags.episodes - 1):
                task.episode(setting, number)
        except ValueError as error:
            if not flags.everything:
                raise
            logger.info("%s is n/a: %s", setting, error)
        else:
            found.append(setting)
    if not found:
        raise ValueError(f"none of the settings of --task {task.name} can be asked")
    return found


if __name__ == "__main__":
    sys.exit(main())
