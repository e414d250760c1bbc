"""Tasks by name; a new one is a file beside this and a line here."""

from collections.abc import Callable

from spae.incontext.tasks.base import Task
from spae.incontext.tasks.coco_captions import CocoCaptions
from spae.incontext.tasks.coco_qa import CocoQa
from spae.incontext.tasks.few_shot import FewShotTask
from spae.incontext.tasks.labelled import LabelledSplits
from spae.incontext.tasks.mini_imagenet import MiniImageNet
from spae.incontext.tasks.real_fast_vqa import RealFastVqa
from spae.incontext.tasks.released import ReleasedData

LABELLED_TASKS: dict[str, Callable[[LabelledSplits], Task]] = {
    "few-shot-real": lambda splits: FewShotTask.of(splits, "real"),
    "few-shot-made-up": lambda splits: FewShotTask.of(splits, "made-up"),
    "few-shot-other": lambda splits: FewShotTask.of(splits, "other"),
}
"""On pictures with labels, from two splits of shards."""

RELEASED_TASKS: dict[str, Callable[[ReleasedData], Task]] = {
    "mini-imagenet-real": lambda data: MiniImageNet(data, "mini-imagenet-real", "real_name_mi"),
    "mini-imagenet-made-up": lambda data: MiniImageNet(data, "mini-imagenet-made-up", "open_ended_mi"),
    "real-fast-vqa": lambda data: RealFastVqa(data, "real-fast-vqa", "real_fast_vqa"),
    "coco-qa": lambda data: CocoQa(data, "coco-qa"),
    "coco-captions": lambda data: CocoCaptions(data, "coco-captions"),
}
"""On files that others released, with their pictures in one folder."""

DRAWING_TASKS = ("draw-classes", "denoise")
"""That draw pictures, on two splits of shards."""

TASKS = (*LABELLED_TASKS, *RELEASED_TASKS, *DRAWING_TASKS)
