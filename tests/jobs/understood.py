"""The commands of demos, read by the flags of the very modules that run them."""

import tyro

from jobs import train
from jobs.demos.clip import DemoClipConfig
from jobs.demos.moving_digits import MovingDigitsFlags
from jobs.evaluate import EvaluateFlags
from jobs.export import ExportFlags
from jobs.incontext import IncontextFlags
from jobs.tokenize_shards import TokenizeFlags
from pipelines.images import ImagesFlags
from pipelines.videos import VideosFlags
from pipelines.vocabulary import VocabularyFlags

FLAGS = {
    "pipelines.images": ImagesFlags,
    "pipelines.videos": VideosFlags,
    "pipelines.vocabulary": VocabularyFlags,
    "jobs.demos.clip": DemoClipConfig,
    "jobs.demos.moving_digits": MovingDigitsFlags,
    "jobs.evaluate": EvaluateFlags,
    "jobs.export": ExportFlags,
    "jobs.incontext": IncontextFlags,
    "jobs.tokenize_shards": TokenizeFlags,
}


def understood(stage):
    """The flags of a stage; SystemExit where its command would not take them."""
    if stage.module == "jobs.train":
        return train.parse_flags(stage.flags)
    return tyro.cli(FLAGS[stage.module], args=stage.flags)
