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
    assert paper == TrainConfig()
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


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["digits-32"].steps = 1
