import json
import re
import sys

import fsspec
import pytest

from jobs import export, train
from jobs.training.judges import JudgeSource
from jobs.training.run_folder import RunRecord
from tests import tiny_spae


def flags(folder, run, *more, steps=6):
    inputs = ["--shards", f"{folder}/train", "--val-shards", f"{folder}/val", "--vocabulary", f"{folder}/vocabulary"]
    return [
        "digits-32",
        *inputs,
        "--run",
        str(run),
        "--steps",
        str(steps),
        *tiny_spae.SMALL_DIGITS,
        "--log-every",
        "2",
        *more,
    ]


def command(*arguments):
    return [sys.executable, "-m", "jobs.train", *arguments]


def test_a_dry_run_tells_the_plan_and_writes_nothing(folder, tmp_path, caplog):
    caplog.set_level("INFO")
    priced = ("--worker-tflops", "0.001", "--worker-price", "2", "--workers", "4")
    assert train.main(flags(folder, tmp_path / "run", "--dry-run", *priced)) == 0
    assert re.search(r"0\.\d million parameters, 0\.0 of a discriminator beside; [\d.]+ GFLOP a sample", caplog.text)
    assert "and for its 4 samples" in caplog.text
    hours, money = re.search(r"([\d.e-]+) hours on 4 workers of 0.001 TFLOP/s, (\d+) in money", caplog.text).groups()
    assert int(money) == round(8 * float(hours))
    assert "40 samples, 60 words; 6 steps of 16 samples (2.4 epochs) on 4 workers" in caplog.text
    assert "an epoch reads 0.000113 GB of shards" in caplog.text
    assert not (tmp_path / "run").exists()


def test_a_dry_run_tells_what_streams_read_of_a_store_and_what_a_cache_holds(folder, tmp_path, caplog):
    caplog.set_level("INFO")
    fsspec.filesystem("memory").put(f"{folder}/train", "/train", recursive=True)
    stored = flags(folder, tmp_path / "run", "--dry-run", "--shards", "memory://train")
    assert train.main(stored) == 0
    assert "of the store, 4.5 times its shards, as its 8 streams begin inside" in caplog.text
    assert train.main([*stored, "--cache", str(tmp_path), "--cache-bytes", "112640"]) == 0
    assert "each machine fetches shards once and holds up to 100% of their 0.000113 GB" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--objective.semantic-weight", "1"], "needs --clip"),
        (["--objective.perceptual-weight", "1"], "needs --perceptual-weights"),
        (["--objective.perceptual-weight", "1", "--perceptual-weights", "clip"], "needs --clip"),
        (["--objective.semantic-weight", "1", "--clip", "ViT-B-32"], "holds no semantics"),
        (["--vocabulary", "/nowhere"], "/nowhere"),
        (["--shards", "/nowhere"], "does not exist"),
        (["--workers", "17"], "17 workers are more than data.batch_size=16"),
        (["--workers", "2:17"], "17 workers are more than data.batch_size=16"),
        (["--workers", "3:2"], "--workers 3:2 must be a number from 1 on, or LEAST:MOST, such as 2:8"),
        (["--workers", "0"], "--workers 0 must be"),
        (
            ["--cache", "/tmp/cache", "--cache-bytes", "10"],
            "--cache-bytes 10 is less than the largest shard",
        ),
    ],
)
def test_unusable_arguments_are_one_clear_error(folder, tmp_path, caplog, change, message):
    assert train.main(flags(folder, tmp_path / "run", *change)) == 2
    assert message in caplog.text
    assert not (tmp_path / "run").exists()


def test_judges_that_nothing_weighs_are_not_loaded(folder, tmp_path):
    weights = ("--clip", "ViT-B-32", "--perceptual-weights", "clip", "--dry-run")
    job = train.prepare(train.parse_flags(flags(folder, tmp_path / "run", *weights)))
    assert job.judges == JudgeSource(None, None, None)


def test_a_misspelt_flag_is_named(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(flags(folder, tmp_path / "run", "--learning-rat", "1"))
    assert stopped.value.code == 2
    assert "learning-rate" in capsys.readouterr().err


def test_a_run_of_other_settings_is_refused_and_replaced_on_request(folder, tmp_path, caplog):
    run = tmp_path / "run"
    parse = train.parse_flags
    train.prepare(parse(flags(folder, run)))
    train.prepare(parse(flags(folder, run)))  # the same settings claim it again
    assert train.main(flags(folder, run, "--seed", "5")) == 2
    assert "other settings (seed: 0 there, 5 here)" in caplog.text
    train.prepare(parse(flags(folder, run, "--seed", "5", "--replace")))
    assert RunRecord.load(str(run)).config.seed == 5


def test_an_export_without_a_run_is_named(tmp_path, caplog):
    assert export.main(["--run", str(tmp_path), "--output", str(tmp_path / "model")]) == 2
    assert "holds no config.json" in caplog.text


def test_an_export_before_the_first_checkpoint_is_named(folder, tmp_path, caplog):
    train.prepare(train.parse_flags(flags(folder, tmp_path / "run")))
    assert export.main(["--run", str(tmp_path / "run"), "--output", str(tmp_path / "model")]) == 2
    assert "no checkpoint yet" in caplog.text


def test_a_checkpoint_that_was_cut_short_is_not_exported(folder, tmp_path, caplog):
    run = tmp_path / "run"
    train.prepare(train.parse_flags(flags(folder, run)))
    (run / "step-00000005").mkdir()
    (run / "step-00000005/state.pt").write_bytes(b"half of")
    assert export.main(["--run", str(run), "--output", str(tmp_path / "model")]) == 2
    assert "no checkpoint yet" in caplog.text


def test_a_finished_run_needs_no_cluster(folder, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train.prepare(train.parse_flags(flags(folder, run)))
    (run / "finished.json").write_text("{}")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert train.main(flags(folder, run)) == 0


def test_a_cluster_that_does_not_answer_is_one_clear_error(folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert train.main(flags(folder, tmp_path / "run")) == 2
    assert "no Ray cluster answers at '127.0.0.1:1'" in caplog.text


def test_the_record_of_a_run_survives_json(folder, tmp_path):
    train.prepare(train.parse_flags(flags(folder, tmp_path / "run")))
    record = RunRecord.load(str(tmp_path / "run"))
    assert not record.differences(record)
    assert json.loads(record.to_json())["format_version"] == 1
    assert record.config.model.embedding_width == 24
    assert record.semantics_fingerprint is None
