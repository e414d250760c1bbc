import dataclasses
import json

from jobs import demo, demo_seeds, train
from jobs.demos.digits import DemoFlags
from spae.data.records import load_index
from spae.evaluation.metrics import wilson
from tests import tiny_models
from tests.jobs.understood import understood


def test_every_command_of_the_demo_is_understood():
    stages = demo.demo_stages(DemoFlags(output="runs/demo", steps=7))
    parsed = [understood(stage) for stage in stages]
    assert len(parsed) == len(stages) == 14
    trained = [flags for flags in parsed if isinstance(flags, train.TrainFlags)]
    assert [flags.config.objective.semantic_weight for flags in trained] == [0.0, 1.5]
    assert {flags.config.steps for flags in trained} == {7}


def test_test_pictures_are_only_tokenized_scored_and_asked_about():
    for stage in demo.demo_stages(DemoFlags()):
        if "runs/demo/shards/test" in stage.flags:
            assert stage.module in ("jobs.tokenize_shards", "jobs.evaluate", "jobs.incontext")


def test_every_stage_needs_what_is_there():
    demo_flags = DemoFlags()
    for stages in (
        demo.demo_stages(demo_flags),
        [*demo_seeds.seed_stages(demo_flags), *demo_seeds.held_out_stages(demo_flags)],
    ):
        titles = [stage.title for stage in stages]
        assert len(set(titles)) == len(titles)
        assert {need for stage in stages for need in stage.after} <= set(titles)
        assert all(understood(stage) for stage in stages if stage.module != "pipelines.verify")


def test_held_out_digits_are_left_out(tmp_path):
    split = tiny_models.save_digit_split(tmp_path / "train", "train", limit=60)
    folder = demo_seeds.write_class_folders(split, tmp_path / "eight")
    assert not {"three", "seven"} & {path.name for path in folder.iterdir()}
    pictures = len(list(folder.glob("*/*.png")))
    assert 35 < pictures < load_index(split).samples == 60


def test_the_spread_is_told(tmp_path):
    document = {
        "first_word": dataclasses.asdict(wilson(98, 100)),
        "layers": [{"psnr": 23.0, "usage": {"perplexity": 90.0}}],
    }
    other = json.loads(json.dumps(document))
    other["layers"][0]["psnr"] = 25.0
    text = demo_seeds.summary([document, other], {"three": {"five": 9, "eight": 4}})
    assert "98.0 (98.0 to 98.0)" in text
    assert "24.0 (23.0 to 25.0)" in text
    assert "first words of three, which nothing was trained on: five 9, eight 4" in text


def test_seeds_need_a_finished_demo(tmp_path, caplog):
    assert demo_seeds.main(["--output", str(tmp_path)]) == 2
    assert "no finished demo" in caplog.text
