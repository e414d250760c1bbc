"""Tasks for a frozen language model, each a dataset, a prompt and a score; a new one is a file and a line here."""

from spae.incontext.tasks.base import Task
from spae.incontext.tasks.few_shot import CONTROLS, FewShotTask, LabelledWords, NameKind

__all__ = ["CONTROLS", "FewShotTask", "LabelledWords", "NameKind", "Task"]
