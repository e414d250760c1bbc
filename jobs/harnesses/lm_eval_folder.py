"""A task of lm-evaluation-harness: episodes of words that any of its models answers, without spae.

    FOLDER/spae_few_shot_made_up.yaml                   the group of all settings
    FOLDER/spae_few_shot_made_up_5_way_3_shot.yaml      a setting: how it is asked and scored
    FOLDER/spae_few_shot_made_up_5_way_3_shot.jsonl     its queries, a line each
    FOLDER/scoring.py                                   what the YAML names by !function

Words and names of classes stand in the JSONL alone, and the YAML names its columns: lm-eval hands a column on as it
is, where any other text would be a Jinja template. `scoring.py` finds the JSONL beside it wherever the folder lies, and
compares by the source of our own comparison, which filters of lm-eval cannot say.
"""

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spae.data.publishing import join, publish, read_bytes
from spae.incontext.language_model import AnswerLimits
from spae.incontext.plain_text import bare
from spae.incontext.tasks import Task
from spae.incontext.tasks.vqa_answers import normalised_answer

_SCORING = '''

def queries(jsonl, **_):
    """The queries of a setting, from the file beside this one."""
    import json
    from pathlib import Path

    import datasets

    with (Path(__file__).parent / jsonl).open(encoding="utf-8") as lines:
        return {"test": datasets.Dataset.from_list([json.loads(line) for line in lines])}


def exact_match(query, answers):
    """1 where the whole first line of the answer is the target, and that is something."""
    answer = answers[0].split("\\n", 1)[0]
    return {"exact_match": float(COMPARED(answer) == COMPARED(query["target"]) != "")}
'''

COMPARED_AS: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(("few-shot-real", "few-shot-made-up", "few-shot-other"), bare),
    **dict.fromkeys(("mini-imagenet-real", "mini-imagenet-made-up"), bare),
    **dict.fromkeys(("real-fast-vqa", "coco-qa"), normalised_answer),
}
"""By task, what both an answer and its target are made: where they are equal then, and not empty, it scores 1, else 0.
Each of these functions stands in a module that needs nothing but the standard library."""


@dataclass
class QuestionCounts:
    """Questions of a folder: inputs = written + errors."""

    written: int = 0
    errors: int = 0


def write_task_folder(
    folder: str, task: Task, settings: Sequence[str], episodes: int, protocol: Mapping[str, Any]
) -> QuestionCounts:
    """Write the folder, the group last; the same arguments give the same bytes.

    ValueError for a task that scores by more than an exact match, a setting without any question that can be asked, and
    a folder that other arguments made.
    """
    if task.name not in COMPARED_AS:
        raise ValueError(
            f"--task {task.name} scores by more than an exact match; those that do are {', '.join(COMPARED_AS)}"
        )
    group, names = harness_name(task.name), [harness_name(task.name, setting) for setting in settings]
    aggregate = [{"metric": "exact_match", "aggregation": "mean", "weight_by_size": True}]
    head = _yaml({"group": group, "task": names, "aggregate_metric_list": aggregate, "metadata": _metadata(protocol)})
    _check(join(folder, f"{group}.yaml"), head)
    _put(join(folder, "scoring.py"), _scoring(COMPARED_AS[task.name]))
    counts = QuestionCounts()
    for setting, name in zip(settings, names, strict=True):
        task.prepare(setting, range(episodes))
        questions = [question for number in range(episodes) for question in _questions(task, setting, number)]
        asked, failed = (_lines(one for one in questions if ("error" in one) == wrong) for wrong in (False, True))
        _put(join(folder, f"{name}.jsonl"), asked)
        if not asked:
            raise ValueError(f"no question of {setting} can be asked, the first because: {questions[0]['error']}")
        if failed:
            _put(join(folder, f"{name}.errors.jsonl"), failed)
        _put(join(folder, f"{name}.yaml"), _setting(name, task.limits(setting), {**protocol, "setting": setting}))
        counts.errors += failed.count(b"\n")
        counts.written += asked.count(b"\n")
    _put(join(folder, f"{group}.yaml"), head)
    return counts


def harness_name(task: str, setting: str = "") -> str:
    """Such as spae_few_shot_made_up_5_way_3_shot; of the group without a setting."""
    return re.sub(r"\W+", "_", f"spae {task} {setting}".strip())


def _questions(task: Task, setting: str, number: int) -> Iterator[dict[str, Any]]:
    episode = task.episode(setting, number)
    for query, question in enumerate(episode.questions):
        yield {
            "episode": number,
            "query": query,
            "query_key": question.key,
            "support_keys": list(episode.support_keys),
            "prompt": question.prompt.text,
            "target": question.target,
            **({"error": question.error} if question.error else {}),
        }


def _lines(questions: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(question)}\n" for question in questions).encode()


def _scoring(compared: Callable[[str], str]) -> bytes:
    source = inspect.getsource(sys.modules[compared.__module__])
    return (source + _SCORING.replace("COMPARED", compared.__name__)).encode()


def _setting(name: str, limits: AnswerLimits, protocol: Mapping[str, Any]) -> bytes:
    """How a setting is asked: greedily, without examples of the harness's own, which the prompt has."""
    generation = {"until": list(limits.stop), "max_gen_toks": limits.most_tokens, "do_sample": False}
    return _yaml(
        {
            "task": name,
            "test_split": "test",
            "dataset_kwargs": {"jsonl": f"{name}.jsonl"},
            "output_type": "generate_until",
            "doc_to_text": "prompt",
            "doc_to_target": "target",
            "num_fewshot": 0,
            "generation_kwargs": generation,
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
            "metadata": _metadata(protocol),
        },
        custom_dataset="scoring.queries",
        process_results="scoring.exact_match",
    )


def _metadata(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """What results of lm-eval repeat; it shows the version."""
    return {"version": 1, **protocol}


def _yaml(values: Mapping[str, Any], **functions: str) -> bytes:
    """A line a value in JSON, which is YAML too."""
    lines = [f"{name}: {json.dumps(value)}\n" for name, value in values.items()]
    lines += [f"{name}: !function {function}\n" for name, function in functions.items()]
    return "".join(lines).encode()


def _put(url: str, content: bytes) -> None:
    _check(url, content)
    publish(url, content)


def _check(url: str, content: bytes) -> None:
    if read_bytes(url) not in (None, content):
        raise ValueError(
            f"{url} was made with other flags or by another version; give another --output, or delete its folder"
        )
