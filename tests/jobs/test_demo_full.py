import numpy as np
import pytest

from jobs import demo_full
from jobs.demo_full import DemoFullFlags, photograph_stages, seed_figures, summary, training_stages
from jobs.demos import photographs
from jobs.demos.photographs import NAMES, SIDE, PhotographsFlags
from spae.data.media import decode_image
from tests.jobs.understood import FLAGS, understood

FLAGS["jobs.demos.photographs"] = PhotographsFlags


def test_both_trainings_weigh_every_term_of_equations_8_and_9():
    flags = DemoFullFlags(steps=7)
    for preset in flags.presets:
        train, export = training_stages(flags, preset, 2)
        config = understood(train).config
        objective = config.objective
        weights = (objective.adversarial_weight, objective.perceptual_weight, objective.semantic_weight)
        penalties = (objective.discriminator.gradient_penalty, objective.discriminator.lecam_weight)
        assert min(*weights, *penalties) > 0
        assert objective.dynamic_weight
        assert (config.seed, config.steps) == (2, 7)
        assert understood(train).perceptual_weights.startswith("efficientnet-lite0")
        assert understood(export).run == understood(train).run


def test_what_is_made_of_the_photographs_is_understood_and_found_by_the_training():
    stages = photograph_stages(DemoFullFlags())
    assert all(understood(stage) for stage in stages)
    train, _ = training_stages(DemoFullFlags(), "photos-64-full", 0)
    *_, clip, vocabulary = stages
    assert understood(train).clip == f"local-dir:{understood(clip).output}"
    assert understood(train).vocabulary == understood(vocabulary).output


def test_crops_of_validation_lie_where_none_of_training_does(tmp_path, monkeypatch):
    """Of photographs whose left three quarters are black and whose right quarter is white."""
    halves = np.zeros((100, 400, 3), np.uint8)
    halves[:, 300:] = 255
    monkeypatch.setattr(photographs, "photographs", lambda: [halves] * len(NAMES))
    assert photographs.main(["--output", str(tmp_path)]) == 0
    for split, level in (("train", 0), ("val", 255)):
        files = sorted((tmp_path / split).glob("*/*.png"))
        assert {file.parent.name for file in files} == set(NAMES)
        for file in files:
            assert np.array_equal(decode_image(file.read_bytes()), np.full((SIDE, SIDE, 3), level))


def test_the_photographs_are_real_and_differ():
    found = photographs.photographs()
    assert [picture.shape[2] for picture in found] == [3] * len(NAMES)
    assert all(picture.std() > 30 for picture in found)


def history(top_share, loss=1.0):
    row = {"pixel": loss, "words/1": 1.0, "words/2": 9.0, "perplexity/1": 1.0, "perplexity/2": 5.0, "skipped": 1.0}
    return [
        {**row, "step": 20},
        {**row, "step": 40, "top_share/1": 1.0, "top_share/2": top_share} | {"validation_psnr": 20.0},
    ]


@pytest.mark.parametrize(("share", "collapsed"), [(0.2, []), (0.7, [2])])
def test_a_collapsed_layer_is_named_in_the_summary(share, collapsed):
    figures = seed_figures(history(share))
    assert figures["collapsed_layers"] == collapsed
    assert (figures["finite"], figures["skipped_steps"], figures["perplexity"]) == (True, 2.0, [1.0, 5.0])
    assert not seed_figures(history(share, float("nan")))["finite"]
    text = summary({"digits-32-full": {"digits-32-full-1": figures}})
    assert f"| 1 | 40 | 20.00 | 1, 5 | {collapsed[0] if collapsed else 'none'} | 2 |" in text


def test_a_layer_that_nothing_guides_and_that_says_the_first_word_again_has_collapsed():
    *_, last = rows = history(0.2)
    last["perplexity/2"] = 1.1
    assert seed_figures(rows)["collapsed_layers"] == [2]
    last["pool_size/1"] = last["pool_size/2"] = 1.0
    assert seed_figures(rows)["collapsed_layers"] == []


def test_digits_need_a_finished_demo(tmp_path, caplog):
    assert demo_full.main(["--demo", str(tmp_path), "--output", str(tmp_path / "full")]) == 2
    assert "holds no finished demo" in caplog.text
