"""The real SmolLM2 on released files whose pictures' words name what is shown: prompts and scores fit a real model."""

import re

import pytest

from jobs.episodes.asking import AskingJob, PromptReader
from jobs.episodes.files import EpisodeFile, EpisodesRun
from spae.incontext import TransformersModel
from spae.incontext.tasks import RELEASED_TASKS, ReleasedData
from tests import released_data
from tests.tiny_causal import smollm2

pytestmark = pytest.mark.slow


class Named:
    """Pictures as the name of what they show, five times, as a tokenizer's first layers would ideally have it."""

    depth, fingerprint = 2, "named"

    def read(self, pictures, layers):
        return [" ".join([self._name(picture)] * 5) for picture in pictures]

    def _name(self, picture):
        number = int(re.findall(r"\d+", picture)[-1])
        return released_data.digit_name(number) if "pictures" in picture else released_data.SUBJECTS[number % 3]


@pytest.fixture(scope="module")
def model():
    return TransformersModel(smollm2())


def ask(model, folder, task, setting, episodes):
    made = RELEASED_TASKS[task](ReleasedData(folder=str(folder), words=Named(), layers=2))
    job = AskingJob(EpisodesRun(str(folder / "output"), task, {"llm_revision": "real"}), made, 0)
    return job.ask(EpisodeFile(setting, 0, 0, episodes), PromptReader(model))


@pytest.mark.parametrize(
    ("task", "name", "least"), [("mini-imagenet-real", "real_name_mi", 0.9), ("real-fast-vqa", "real_fast_vqa", 0.6)]
)
def test_it_reads_names(model, tmp_path, task, name, least):
    """Seen once: 20 of 20, 16 of 20."""
    released_data.save_inner_shots(tmp_path, name, 3, 2, questions=10)
    rows = ask(model, tmp_path, task, "2-way-3-shot", 10)
    assert all(row.error is None for row in rows)
    assert sum(row.score for row in rows) >= least * len(rows)


def test_it_says_what_a_picture_shows(model, tmp_path):
    """Each is in the form of the examples; of four that were looked at, three named the right subject."""
    released_data.save_captions(tmp_path)
    rows = ask(model, tmp_path, "coco-captions", "2-layers", 5)
    shown = [released_data.SUBJECTS[int(re.findall(r"\d+", row.query_key)[-1]) % 3] for row in rows]
    assert all(re.fullmatch(r"A (photograph|picture) of the \w+\.", row.answer) for row in rows)
    assert sum(subject in row.answer for subject, row in zip(shown, rows, strict=True)) >= 3
