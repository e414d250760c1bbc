import dataclasses

import pytest

from spae.ablations import ABLATIONS
from spae.config import TrainConfig, to_dict
from spae.presets import PRESETS


def changed(name, config):
    """What a row changes, as flat names."""

    def flat(values, prefix=""):
        for key, value in values.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    before, after = dict(flat(to_dict(config))), dict(flat(to_dict(ABLATIONS[name](config))))
    return {key: after[key] for key in after if after[key] != before[key]}


def test_the_papers_rows_come_first_in_its_order():
    paper = ["vq", "frozen", "semantic", "rq-2", "saq-2", "pyramid", "one-threshold", "fixed-weight", "no-perceptual"]
    assert list(ABLATIONS)[:9] == paper


def test_rows_change_what_they_name_and_nothing_else():
    config = TrainConfig()
    one, two = {"model.grids": ((16, 16),)}, {"model.grids": ((16, 16),) * 2}
    guided = {"objective.semantic_thresholds": (0.8,)}
    assert changed("pyramid", config) == {}
    assert changed("semantic", config) == one | guided | {"model.quantizer": "vector"}
    assert changed("frozen", config) == changed("semantic", config) | {"objective.semantic_weight": 0.0}
    assert changed("rq-2", config) == two | guided | {"model.quantizer": "residual"}
    assert changed("saq-2", config) == two | guided
    assert changed("one-threshold", config) == {"objective.semantic_thresholds": (0.9,) * 5}
    assert changed("fixed-weight", config) == {"objective.dynamic_weight": False}
    assert changed("no-perceptual", config) == {"objective.perceptual_weight": 0.0}
    assert changed("lqae", config) == changed("frozen", config) | {"model.search": "cosine"}
    assert changed("projected", config) == {"model.table": "projected", "objective.codebook_weight": 1.0}
    assert ABLATIONS["spae-8"](config).model.layer_sizes == (1, 4, 16, 64, 256, 256, 256, 256)


def test_the_baseline_is_maskgits():
    config = ABLATIONS["vq"](TrainConfig())
    assert (config.model.table_size, config.model.embedding_width) == (1_024, 256)
    objective = config.objective
    assert (objective.commitment_weight, objective.codebook_weight, objective.entropy_weight) == (0.25, 1.0, 0.1)


@pytest.mark.parametrize("preset", ["digits-32", "mnist-32", "image-128", "image-256", "video-128", "digits-video"])
def test_every_row_fits_every_preset(preset):
    for change in ABLATIONS.values():
        assert change(PRESETS[preset]).model.latent_grid == PRESETS[preset].model.latent_grid


def test_presets_of_256_pixels_have_the_latents_of_128():
    assert PRESETS["image-256"].model.layer_sizes == PRESETS["image-128"].model.layer_sizes == (1, 4, 16, 64, 256, 256)


def test_the_video_preset_is_the_papers():
    config = PRESETS["video-128"]
    assert (config.model.input_size, config.model.latent_grid) == ((16, 128, 128), (4, 16, 16))
    assert config.model.layer_sizes == (1, 4, 16, 128, 1024, 1024)
    assert len(config.objective.semantic_thresholds) == 5
    assert (config.data.batch_size, config.steps) == (512, 130_000)


def test_rows_for_videos_differ_from_those_for_images_in_their_grids_alone():
    for name in ("vq", "frozen", "semantic"):
        model = PRESETS[f"video-128-{name}"].model
        assert model.grids == ((4, 16, 16),)
        image = PRESETS[f"image-128-{name}"].model
        assert dataclasses.replace(image, input_size=(16, 128, 128), grids=model.grids) == model
