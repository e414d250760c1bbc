"""Tasks for a frozen language model, each a dataset, a prompt and a score in one file; `registry` names them."""

from spae.incontext.tasks.base import Task
from spae.incontext.tasks.few_shot import CONTROLS, FewShotTask, NameKind
from spae.incontext.tasks.labelled import LabelledPictures, LabelledSplits, LabelledWords, random_table, rows_by_label
from spae.incontext.tasks.registry import DRAWING_TASKS, LABELLED_TASKS, RELEASED_TASKS, TASKS
from spae.incontext.tasks.released import PictureWords, ReleasedData

__all__ = [
    "CONTROLS",
    "DRAWING_TASKS",
    "LABELLED_TASKS",
    "RELEASED_TASKS",
    "TASKS",
    "FewShotTask",
    "LabelledPictures",
    "LabelledSplits",
    "LabelledWords",
    "NameKind",
    "PictureWords",
    "ReleasedData",
    "Task",
    "random_table",
    "rows_by_label",
]
