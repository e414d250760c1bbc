import json

import pytest

from jobs import ablate, train
from jobs.ablation.markdown import COLUMNS, ablation_markdown
from spae.clip import load_clip, prompt_features
from spae.data.records import load_class_names, load_index
from spae.evaluation.ablation import ClipStandIn, Splits, score_row
from spae.evaluation.few_shot import Episodes
from tests import tiny_models, tiny_spae


def flags(folder, *more):
    inputs = ["--shards", f"{folder}/train", "--scored", f"{folder}/val", "--vocabulary", f"{folder}/vocabulary"]
    return [*inputs, "--clip", "local-dir:/clip", "--output", str(folder / "out"), *more]


@pytest.mark.parametrize(("flag", "value"), [("--rows", "frosen"), ("--preset", "digit")])
def test_unknown_rows_and_presets_are_named(tmp_path, capsys, flag, value):
    with pytest.raises(SystemExit) as stopped:
        ablate.main(flags(tmp_path, flag, value))
    assert stopped.value.code == 2
    assert f"{value!r}" in capsys.readouterr().err


def test_every_row_and_seed_is_a_command_that_is_understood(tmp_path):
    parsed = ablate.tyro.cli(ablate.AblateFlags, args=flags(tmp_path, "--seeds", "0", "1", "--steps", "9"))
    stages = ablate.training_stages(parsed)
    assert len(stages) == 2 * 2 * 9
    trained = [train.parse_flags(stage.flags) for stage in stages if stage.module == "jobs.train"]
    assert [one.ablation for one in trained[::2]] == list(ablate.PAPER_ROWS)
    assert {one.config.seed for one in trained} == {0, 1}
    assert {one.config.steps for one in trained} == {9}
    (tmp_path / "out/models/frozen-1").mkdir(parents=True)
    (tmp_path / "out/models/frozen-1/config.json").write_text("{}")
    assert len(ablate.training_stages(parsed)) == 2 * 2 * 9 - 2


def test_a_row_changes_the_run_that_is_trained(tmp_path, caplog):
    tiny_models.save_digit_split(tmp_path / "train", "train", limit=40)
    tiny_spae.vocabulary(words=60, width=24).save(str(tmp_path / "vocabulary"))
    inputs = ["--shards", f"{tmp_path}/train", "--vocabulary", f"{tmp_path}/vocabulary", "--run", f"{tmp_path}/run"]
    job = train.prepare(train.parse_flags(["digits-32", *inputs, "--ablation", "vq", "--dry-run"]))
    assert (job.config.model.table, job.config.model.table_size, job.config.model.embedding_width) == (
        "learned",
        60,
        256,
    )
    assert "so many instead of 1024" in caplog.text
    job = train.prepare(train.parse_flags(["digits-32", *inputs, "--ablation", "frozen", "--dry-run"]))
    assert (job.config.model.grids, job.config.model.embedding_width) == (((8, 8),), 24)
    assert train.main(["digits-32", *inputs, "--ablation", "frosen"]) == 2
    assert "'frosen' is none of ['vq'" in caplog.text


def test_rows_on_raw_embeddings_are_trained_on_the_raw_vocabulary(tmp_path, capsys):
    raw = ("--rows", "literal", "pyramid")
    with pytest.raises(SystemExit):
        ablate.main(flags(tmp_path, *raw))
    assert "--raw-vocabulary" in capsys.readouterr().err
    parsed = ablate.tyro.cli(ablate.AblateFlags, args=flags(tmp_path, *raw, "--raw-vocabulary", "/raw"))
    trained = [train.parse_flags(stage.flags) for stage in ablate.training_stages(parsed)[::2]]
    assert [one.vocabulary for one in trained] == ["/raw", f"{tmp_path}/vocabulary"]


def test_every_seed_that_was_scored_is_in_the_table(tmp_path, scored):
    parsed = ablate.tyro.cli(ablate.AblateFlags, args=flags(tmp_path, "--rows", "frozen", "vq"))
    (tmp_path / "out/scores").mkdir(parents=True)
    for name in ("frozen-0", "frozen-2", "vq-0", "pyramid-0"):
        row, seed = name.split("-")
        document = {"row": row, "seed": int(seed), "clip": "", **scored}
        (tmp_path / f"out/scores/{name}.json").write_text(json.dumps(document))
    assert [(one["row"], one["seed"]) for one in ablate.score_rows(parsed)] == [("frozen", 0), ("frozen", 2), ("vq", 0)]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A random tokenizer's scores on digits."""
    folder = tmp_path_factory.mktemp("scores")
    for split in ("train", "val"):
        tiny_models.save_digit_split(folder / split, split, limit=60)
    guide = load_clip(tiny_models.causal_clip(folder / "clip"))
    words = [f"word{i}" for i in range(40)]
    features = prompt_features(guide.model, guide.tokenizer, words, ["a {}"])
    names = load_class_names(str(folder / "val"))
    classes = prompt_features(guide.model, guide.tokenizer, list(names.values()), ["a {}"])
    judge = ClipStandIn(guide, dict(zip(words, features, strict=True)), classes)
    splits = Splits(scored=load_index(str(folder / "val")), support=load_index(str(folder / "train")))
    return score_row(tiny_spae.model(), judge, splits, (0.9, 0.8), Episodes(number=20))


def test_a_row_has_every_column_for_every_number_of_layers(scored):
    assert [layer["tokens"] for layer in scored["layers"]] == [1, 5, 21, 37]
    assert scored["samples"] == 60
    for layer in scored["layers"]:
        assert set(COLUMNS.values()) <= set(layer)
        assert 0 <= layer["few_shot"]["accuracy"] <= 1
        assert layer["frechet"] >= 0
        assert 1 <= layer["inception"] <= 10
        assert -1 <= layer["clip_score"] <= 1
        assert 1 <= layer["perplexity"] <= layer["words"] <= 40
    hits = [layer["pool_hit"] for layer in scored["layers"]]
    assert 0 <= min(hits[:2]) <= max(hits[:2]) <= 1
    assert hits[2:] == [None, None]


def test_the_table_tells_means_ranges_and_stand_ins(scored):
    def document(row, seed, shift):
        layers = [{**layer, "psnr": 20.0 + shift, "clip_score": None} for layer in scored["layers"]]
        return {"row": row, "seed": seed, "clip": "local-dir:/clip", **scored, "layers": layers}

    text = ablation_markdown([document("frozen", 0, 0), document("frozen", 1, 1)], ["frozen"])
    assert "| frozen | 4: 37 |" in text
    assert "| frozen | 4 |" in text
    assert "20.5 (20 to 21)" in text
    assert "| n/a |" in text
    assert "stand-ins" in text
    assert "60 pictures" in text
