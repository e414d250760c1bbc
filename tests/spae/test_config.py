import dataclasses
import json

import pytest

from spae.config import ObjectiveConfig, SPAEConfig, TrainConfig, from_dict, to_dict
from spae.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    preset = PRESETS[name]
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(preset)))) == preset


def test_the_papers_numbers_are_the_defaults():
    paper = PRESETS["image-128"]
    assert paper == dataclasses.replace(TrainConfig(), precision="bfloat16")
    assert paper.model.layer_sizes == (1, 4, 16, 64, 256, 256)
    assert sum(paper.model.layer_sizes) == 597
    assert paper.objective.semantic_thresholds == (0.98, 0.95, 0.9, 0.85, 0.8)
    assert (paper.steps, paper.data.batch_size, paper.optimizer.learning_rate) == (450_000, 256, 1e-4)


def test_clips_halve_their_frames_only_twice():
    grids = ((1, 1, 1), (4, 16, 16))
    assert SPAEConfig(input_size=(16, 128, 128), grids=grids).latent_grid == (4, 16, 16)


def test_unknown_fields_are_named():
    with pytest.raises(ValueError, match=r"ObjectiveConfig has no field \['colour'\]"):
        from_dict(TrainConfig, {"objective": {"colour": 1}})


@pytest.mark.parametrize("thresholds", [(0.9, 0.95), (1.2,), (-0.1,)])
def test_thresholds_must_fall_inside_the_unit_interval(thresholds):
    with pytest.raises(ValueError, match="semantic_thresholds"):
        ObjectiveConfig(semantic_thresholds=thresholds)


def test_more_thresholds_than_layers_are_refused():
    small = dataclasses.replace(PRESETS["digits-32"].model)
    with pytest.raises(ValueError, match="6 semantic_thresholds for 5 layers"):
        TrainConfig(model=small, objective=ObjectiveConfig(semantic_thresholds=(0.9,) * 6))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"temperature": -1.0}, "temperature=-1.0 must be above 0"),
        ({"table_size": 0}, "table_size=0 must be at least 2"),
        ({"embedding_width": 0}, "embedding_width=0 must be at least 1"),
        ({"search": "manhattan"}, "search='manhattan' must be one of euclidean, cosine"),
        ({"grids": ((2, 2), (1, 1), (16, 16))}, r"\(2, 2\) is followed by the smaller \(1, 1\)"),
        ({"grids": ((3, 3), (16, 16))}, r"\(3, 3\) does not divide the latent grid"),
        ({"grids": ((1,), (16, 16))}, r"\(1,\) does not divide"),
    ],
)
def test_models_that_cannot_be_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SPAEConfig(), **changes)
    with pytest.raises(ValueError, match=message):
        from_dict(SPAEConfig, changes)


def test_a_batch_that_trains_nothing_is_refused():
    preset = PRESETS["digits-32"]
    with pytest.raises(ValueError, match=r"batch_size=2 must be at least 3.*latent_statistics=channel"):
        dataclasses.replace(preset, data=dataclasses.replace(preset.data, batch_size=2))
    channel = dataclasses.replace(preset.model, latent_statistics="channel")
    assert dataclasses.replace(preset, model=channel, data=dataclasses.replace(preset.data, batch_size=1))


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["digits-32"].steps = 1
