import dataclasses
import json
import logging

import pytest

from jobs import evaluate
from jobs.reporting.comparison import MISSING, at, compared_figures, comparison_text
from spae.clip import load_clip, prompt_features, semantics_record
from spae.judges.tiny import TinyJudge
from spae.model import SPAE
from spae.vocabulary import Vocabulary
from tests import tiny_spae
from tests.tiny_models import causal_clip
from tests.tiny_shards import samples, write_split
from tests.tiny_tokens import tokenize_split


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, a training and a test split, a CLIP with its vocabulary, and token tables."""
    root = tmp_path_factory.mktemp("evaluate")
    model = tiny_spae.model()
    model.save_pretrained(str(root / "model"))
    write_split(root / "train", [samples(20, seed=9)], "train")
    test = write_split(root / "test", [samples(9), samples(6, seed=1)])
    guide = load_clip(causal_clip(root / "clip"))
    plain, templates = tiny_spae.vocabulary(), ("a {}.",)
    dataclasses.replace(
        plain,
        semantics=prompt_features(guide.model, guide.tokenizer, plain.word_list, templates),
        record=dataclasses.replace(plain.record, semantics=semantics_record(guide, "one", templates)),
    ).save(str(root / "vocabulary"))
    tokenize_split(str(root / "model"), test, str(root / "tokens"))
    return root


def _run(folder, *flags, output="score.json"):
    arguments = {"--model": "model", "--shards": "test", "--output": output}
    paths = [part for flag, name in arguments.items() for part in (flag, str(folder / name))]
    return evaluate.main([*paths, "--batch", "4", *flags])


def _score(folder, *flags):
    assert _run(folder, *flags) == 0
    return json.loads((folder / "score.json").read_text())


@pytest.fixture(scope="module")
def full(folder):
    """The document with all that can be asked for."""
    clip = ("--vocabulary", str(folder / "vocabulary"), "--clip", f"local-dir:{folder / 'clip'}")
    return _score(folder, "--tokens", str(folder / "tokens"), "--train-shards", str(folder / "train"), *clip)


def test_a_model_of_the_first_words_takes_the_whole_vocabulary(folder, tmp_path):
    few = dataclasses.replace(tiny_spae.CONFIG, table_size=20)
    SPAE(few, tiny_spae.vocabulary()).eval().save_pretrained(str(tmp_path / "model"))
    clip = ("--vocabulary", str(folder / "vocabulary"), "--clip", f"local-dir:{folder / 'clip'}")
    score = _score(folder, "--model", str(tmp_path / "model"), *clip)
    assert score["layers"][0]["clip_score"] is not None
    assert score["layers"][0]["usage"]["words"] <= 20


def test_the_document_holds_scores_and_the_protocol(full, folder):
    assert (full["samples"], full["errors"]) == (15, 0)
    assert [layer["words_so_far"] for layer in full["layers"]] == [1, 5, 21, 37]
    assert all(layer["psnr"] > 0 and layer["usage"]["top_word"].startswith("word") for layer in full["layers"])
    assert full["first_word"]["samples"] == full["baselines"]["learnt_map"]["samples"] == 15
    assert full["baselines"]["pictures"] == 20
    assert full["swapped"]["lost"] == pytest.approx(full["layers"][3]["psnr"] - full["swapped"]["psnr"])
    assert 0 <= full["clip"]["zero_shot"]["share"] <= 1
    assert all(-1 <= layer["clip_score"] <= 1 for layer in full["layers"])
    assert [layer["in_pools"]["threshold"] for layer in full["layers"]] == [0.98, 0.95, 0.9, 0.85]
    protocol = full["protocol"]
    assert protocol["model_fingerprint"] == tiny_spae.model().fingerprint
    assert protocol["split"] == "test"
    assert list(protocol["source_sha256"]) == ["test-000000", "test-000001"]
    assert "crop" in protocol["crop"]


def test_stored_and_fresh_words_score_the_same(full, folder):
    fresh = _score(folder)
    for name in ("first_word", "swapped", "samples"):
        assert fresh[name] == full[name]
    for one, other in zip(fresh["layers"], full["layers"], strict=True):
        assert (one["psnr"], one["usage"]) == (other["psnr"], other["usage"])
    assert (fresh["baselines"], fresh["clip"]) == (None, None)


def test_layers_and_shards_can_be_limited(folder):
    score = _score(folder, "--layers", "1,4", "--limit", "1")
    assert score["samples"] == 9
    assert ["psnr" in layer for layer in score["layers"]] == [True, False, False, True]


def test_a_table_is_printed(folder, capsys):
    _score(folder)
    printed = capsys.readouterr().out
    assert "PSNR of layer 1 " in printed
    assert "PSNR of layers 1 to 4, 37 words" in printed
    assert "first word is the class's name" in printed
    assert MISSING not in [line.split()[-1] for line in printed.splitlines()]


def test_undecodable_samples_are_counted_and_too_many_fail(folder, tmp_path, caplog):
    broken = samples(10)
    broken[4] = (broken[4][0], b"x", 0)
    shards = write_split(tmp_path / "split", [broken])
    arguments = ["--model", str(folder / "model"), "--shards", shards, "--output", str(tmp_path / "score.json")]
    assert evaluate.main(arguments) == 1
    assert "1 samples cannot be decoded" in caplog.text
    score = json.loads((tmp_path / "score.json").read_text())
    assert (score["samples"], score["errors"]) == (9, 1)
    assert evaluate.main([*arguments, "--max-error-share", "0.1"]) == 0


def test_words_of_another_model_are_refused(folder, tmp_path, caplog):
    other = tiny_spae.model(seed=1)
    other.save_pretrained(str(tmp_path / "model"))
    tokens, output = str(folder / "tokens"), str(tmp_path / "score.json")
    arguments = ["--model", str(tmp_path / "model"), "--shards", str(folder / "test"), "--output", output]
    assert evaluate.main([*arguments, "--tokens", tokens]) == 1
    assert other.fingerprint in caplog.text
    assert tiny_spae.model().fingerprint in caplog.text
    assert not (tmp_path / "score.json").exists()


def test_a_missing_table_is_named(folder, caplog):
    assert _run(folder, "--tokens", str(folder / "nowhere")) == 1
    assert "test-000000.parquet does not exist" in caplog.text


def test_tables_of_the_first_layers_are_not_scored(folder, tmp_path, caplog):
    tokenize_split(str(folder / "model"), str(folder / "test"), tmp_path / "tokens", layers=2)
    assert _run(folder, "--tokens", str(tmp_path / "tokens")) == 1
    assert "test-000000.parquet stores 2 layers of 4; here all are needed" in caplog.text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--clip", "local-dir:x"], "belong together"),
        (["--layers", "9"], "outside 1 to 4"),
        (["--layers", "one"], "--layers one must be all"),
        (["--shards", "nowhere"], "does not exist"),
        (["--batch", "0"], "at least 1"),
    ],
)
def test_unusable_arguments_end_with_2(folder, flags, message, caplog, capsys):
    try:
        status = _run(folder, *flags)
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in caplog.text + capsys.readouterr().err.replace("\n", " ")


def test_a_vocabulary_of_other_words_is_refused(folder, tmp_path, caplog):
    tiny_spae.vocabulary(words=30).save(str(tmp_path / "other"))
    assert _run(folder, "--vocabulary", str(tmp_path / "other"), "--clip", f"local-dir:{folder / 'clip'}") == 2
    assert Vocabulary.load(str(tmp_path / "other")).words_fingerprint in caplog.text


def test_a_vocabulary_without_semantics_is_refused(folder, tmp_path, caplog):
    tiny_spae.vocabulary().save(str(tmp_path / "plain"))
    assert _run(folder, "--vocabulary", str(tmp_path / "plain"), "--clip", f"local-dir:{folder / 'clip'}") == 2
    assert "holds no semantics" in caplog.text


def test_documents_stand_beside_each_other(full):
    rows = {row.title: row.values for row in compared_figures([full, {"layers": []}])}
    assert rows["PSNR of layer 1"] == (f"{full['layers'][0]['psnr']:.2f} dB", MISSING)
    assert compared_figures([{}]) == []
    text = comparison_text(compared_figures([full, full]), ["one", "other"])
    widths = {len(line) for line in text.splitlines()}
    assert len(widths) == 1, "columns are aligned to the right"
    assert at(full, "layers", 99, "psnr") is None


def test_the_counts_end_the_run(folder, caplog):
    caplog.set_level(logging.INFO)
    assert _run(folder) == 0
    assert "in 15, out 15, failed 0" in caplog.text


JUDGED = ("--judges", "tiny", "--codecs", "bicubic", "jpeg", "--layers", "1,4", "--examples", "1")


@pytest.fixture(scope="module")
def judged(folder):
    """The document with a judge and codecs, and all that is written beside it."""
    assert _run(folder, *JUDGED, output="judged.json") == 0
    return json.loads((folder / "judged.json").read_text())


def test_judges_measure_every_number_of_layers_and_the_protocol_tells_whence(judged):
    layers = [judged["layers"][number]["judges"]["tiny"] for number in (0, 3)]
    for figures in layers:
        assert all("(random network)" in name for name in figures)
        assert all(value > 0 for value in figures.values())
    assert judged["layers"][0]["ssim"] is not None
    protocol = judged["protocol"]
    assert protocol["judges"][0]["sha256"] == TinyJudge().record.sha256
    assert protocol["judges"][0]["comparable"] is False
    assert len(protocol["references"]["tiny"]) == 64
    assert (protocol["device"], protocol["dtype"], protocol["samples"]) == ("cpu", "float32", 15)
    assert judged["counts"] == {"in": 15, "out": 15, "failed": 0}
    assert judged["codecs"]["bicubic"][1]["bits"] == 24 * 9
    assert judged["layers"][0]["readable"] == {"share": 0, "uniform": 0}, "word7 and the like are no words"


def test_a_table_a_plot_and_a_grid_lie_beside_the_document(judged, folder):
    text = (folder / "judged.md").read_text()
    assert "come from random networks and compare with nothing" in text
    assert "| model | 37 |" in text
    assert "| jpeg | 37 |" in text
    assert "sha256" in text
    assert "| layer | words in use | perplexity | readable | readable, uniform | top word |" in text
    for name in ("judged.png", "judged-bits.png", "judged-pictures.png", "judged-words.png"):
        assert name in text
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_a_killed_evaluation_goes_on_where_it_was(judged, folder, caplog):
    """What stands of another run is the same file; only the shard that is missing is read."""
    caplog.set_level(logging.INFO)
    (parts,) = (folder / "judged.parts").iterdir()
    first, second = sorted(parts.iterdir())
    kept, made = first.read_bytes(), first.stat().st_mtime_ns
    second.unlink()
    assert _run(folder, *JUDGED, output="judged.json") == 0
    assert "1 of 2 shards are scored already" in caplog.text
    assert (first.read_bytes(), first.stat().st_mtime_ns) == (kept, made)
    assert json.loads((folder / "judged.json").read_text()) == judged


def test_a_pilot_is_reused_by_the_full_run(judged, folder, caplog):
    caplog.set_level(logging.INFO)
    assert _run(folder, *JUDGED, "--limit", "1", output="pilot.json") == 0
    assert _run(folder, *JUDGED, output="pilot.json") == 0
    assert "1 of 2 shards are scored already" in caplog.text
    whole = json.loads((folder / "pilot.json").read_text())
    assert whole["layers"] == judged["layers"]


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bits(judged, folder):
    for workers in ("1", "2"):
        flags = (*JUDGED, "--workers", workers, "--train-shards", str(folder / "train"))
        assert _run(folder, *flags, output=f"workers-{workers}.json") == 0
    one, two = (json.loads((folder / f"workers-{n}.json").read_text()) for n in (1, 2))
    assert one == two
    assert one["layers"] == judged["layers"]
    assert one["baselines"]["pictures"] == 20


def test_other_shardings_agree_to_nine_digits(judged, folder, tmp_path):
    again = write_split(tmp_path / "split", [samples(9)[:4], samples(9)[4:] + samples(6, seed=1)])
    flags = [*JUDGED, "--shards", again, "--batch", "4", "--output", str(tmp_path / "again.json")]
    assert evaluate.main(["--model", str(folder / "model"), *flags]) == 0
    other = json.loads((tmp_path / "again.json").read_text())
    for number in (0, 3):
        for name, value in judged["layers"][number]["judges"]["tiny"].items():
            assert other["layers"][number]["judges"]["tiny"][name] == pytest.approx(value, rel=1e-9)
    assert other["swapped"]["psnr"] == pytest.approx(judged["swapped"]["psnr"], rel=1e-9)


def test_what_a_judge_saw_in_the_originals_is_kept_for_other_models(judged, folder, tmp_path):
    kept = tmp_path / "references"
    tiny_spae.model(seed=1).save_pretrained(str(tmp_path / "model"))
    assert _run(folder, *JUDGED, "--references", str(kept), output="first.json") == 0
    (file,) = kept.iterdir()
    written = file.stat().st_mtime_ns
    assert (
        _run(folder, *JUDGED, "--references", str(kept), "--model", str(tmp_path / "model"), output="second.json") == 0
    )
    first, second = (json.loads((folder / f"{name}.json").read_text()) for name in ("first", "second"))
    assert file.stat().st_mtime_ns == written
    assert first["protocol"]["references"] == second["protocol"]["references"] == judged["protocol"]["references"]
    assert first["layers"] == judged["layers"]
    assert second["layers"] != judged["layers"]


def test_numbers_of_one_protocol_stand_in_one_table_and_others_are_refused(judged, folder, tmp_path, capsys, caplog):
    assert _run(folder, *JUDGED, "--compare", str(folder / "judged.json"), output="same.json") == 0
    assert "Frechet distance (random network) by tiny" in capsys.readouterr().out
    assert _run(folder, "--layers", "1", "--compare", str(folder / "judged.json"), output="other.json") == 1
    assert "figures of different protocols cannot stand in one table: judges is" in caplog.text
    cropped = {**judged, "protocol": {**judged["protocol"], "crop": "none"}}
    with pytest.raises(ValueError, match="crop is"):
        compared_figures([judged, cropped])


def test_another_model_rebuilds_the_same_pictures(judged, folder):
    flags = (*JUDGED, "--baseline-model", str(folder / "model"))
    score = _score(folder, *flags)
    (rival,) = score["codecs"]["model"]
    assert rival["judges"]["tiny"] == pytest.approx(judged["layers"][3]["judges"]["tiny"])
    assert score["protocol"]["baseline_model"] == tiny_spae.model().fingerprint


def test_a_dry_run_tells_what_is_to_do_and_scores_nothing(judged, folder, caplog):
    caplog.set_level(logging.INFO)
    assert _run(folder, *JUDGED, "--dry-run", output="judged.json") == 0
    assert _run(folder, *JUDGED, "--dry-run", output="dry.json") == 0
    assert "0 of 2 shards with 0 pictures" in caplog.text
    assert "2 of 2 shards with 15 pictures to score, by tiny; codecs: bicubic, jpeg" in caplog.text
    assert not list(folder.glob("dry*"))


def test_judges_see_the_layers_that_they_are_told_to(judged, folder):
    assert _run(folder, *JUDGED, "--judged-layers", "4", output="some.json") == 0
    first, last = (json.loads((folder / "some.json").read_text())["layers"][number] for number in (0, 3))
    assert (first["judges"], first["psnr"]) == ({}, judged["layers"][0]["psnr"])
    assert last["judges"] == judged["layers"][3]["judges"]


def test_an_unknown_judge_is_named(folder, caplog):
    assert _run(folder, "--judges", "nobody") == 2
    assert "there is no judge 'nobody'; there are inception-v3" in caplog.text
    assert _run(folder, "--judges", "tiny", "tiny") == 2
    assert "tiny twice" in caplog.text
