import dataclasses
import itertools

import pytest
import torch

from jobs import demo_video
from jobs.demo_video import DemoVideoFlags, demo_stages
from jobs.demos.moving_digits import MovingDigitsFlags, videos
from spae.data.loader import BatchPlan, batches
from spae.data.mp4 import encode_mp4
from spae.data.records import load_index
from spae.model import SPAE
from spae.presets import PRESETS
from spae.training.objective import Objective
from spae.training.state import TrainState
from spae.training.step import train_step
from tests import tiny_shards
from tests.jobs.understood import understood


def test_every_command_is_understood_and_the_two_trainings_differ_in_their_start_alone():
    stages = demo_stages(DemoVideoFlags(steps=7))
    inflated, scratch = (understood(stage) for stage in stages if stage.module == "jobs.train")
    assert all(understood(stage) for stage in stages)
    assert (inflated.image_model, scratch.image_model) == ("runs/demo/model", None)
    assert inflated.config == scratch.config
    assert inflated.config.steps == 7
    assert inflated.config.objective.semantic_weight == 1.5


def test_every_stage_needs_what_is_there():
    stages = demo_stages(DemoVideoFlags())
    titles = [stage.title for stage in stages]
    assert len(set(titles)) == len(titles) == 10
    assert {need for stage in stages for need in stage.after} <= set(titles)


def test_test_videos_are_only_scored():
    for stage in demo_stages(DemoVideoFlags()):
        if "runs/demo-video/shards/test" in stage.flags:
            assert stage.module == "jobs.evaluate"


def test_the_image_demo_must_be_there(tmp_path, caplog):
    assert demo_video.main(["--demo", str(tmp_path)]) == 2
    assert "no finished demo; run `python -m jobs.demo" in caplog.text


@pytest.mark.slow
def test_a_video_model_that_begins_from_the_shipped_image_model_is_ahead_of_one_from_scratch(tmp_path):
    """By its loss on moving digits after equal steps; 20 s on an idle core, no language model and no CLIP."""
    made = videos("train", MovingDigitsFlags(output="", limit=64))
    rows = [(f"v{number}", encode_mp4(frames, rate=12.5, crf=10), 0) for number, (_, frames) in enumerate(made)]
    index = load_index(tiny_shards.write_split(tmp_path, [rows], suffix="mp4"))
    image = SPAE.from_pretrained("digits")
    config = PRESETS["digits-video"]
    model = dataclasses.replace(config.model, embedding_width=image.vocabulary.width)
    objective = dataclasses.replace(config.objective, semantic_weight=0.0)
    data = dataclasses.replace(config.data, batch_size=8)
    config = dataclasses.replace(config, model=model, objective=objective, data=data, steps=12)
    plan = BatchPlan(index=index, data=data, input_size=model.input_size, draws=0, seed=0)
    errors = []
    for begin in (image.inflate(model), SPAE(model, image.vocabulary)):
        torch.manual_seed(0)
        state, some = TrainState.create(config, begin), itertools.islice(batches(plan), 12)
        found = [train_step(state, Objective(objective), batch, config).terms["pixel"] for batch in some]
        errors.append(float(sum(found[-3:])) / 3)
    assert errors[0] < 0.5 * errors[1]
