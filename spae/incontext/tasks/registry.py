"""Tasks by name; a new one is a file beside this and a line here."""

from collections.abc import Callable

from spae.incontext.tasks.base import Task
from spae.incontext.tasks.few_shot import FewShotTask
from spae.incontext.tasks.labelled import LabelledSplits
from spae.incontext.tasks.released import ReleasedData

LABELLED_TASKS: dict[str, Callable[[LabelledSplits], Task]] = {
    "few-shot-real": lambda splits: FewShotTask.of(splits, "real"),
    "few-shot-made-up": lambda splits: FewShotTask.of(splits, "made-up"),
    "few-shot-other": lambda splits: FewShotTask.of(splits, "other"),
}
"""On pictures with labels, from two splits of shards."""

RELEASED_TASKS: dict[str, Callable[[ReleasedData], Task]] = {}
"""On files that others released, with their pictures in one folder."""

TASKS = (*LABELLED_TASKS, *RELEASED_TASKS)
