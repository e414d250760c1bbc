"""What the command tells and refuses before it starts Ray, and runs in which nothing is left to do."""

import dataclasses
import json
import logging

import pytest

from jobs import tokenize_shards
from spae.data.records import load_index
from tests.tiny_shards import samples, write_split
from tests.tiny_tokens import token_job, tokenize_shard


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    shards = [samples(count, seed) for seed, count in enumerate((9, 5, 7))]
    return write_split(tmp_path_factory.mktemp("split"), shards)


def _run(model, split, output, *flags):
    return tokenize_shards.main(
        ["--model", str(model), "--input", str(split), "--output", str(output), "--batch", "4", *flags]
    )


def test_a_relative_output_is_refused_in_a_submitted_job(model, split, monkeypatch, caplog):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert _run(model, split, "runs/tokens") == 2
    assert "--output runs/tokens is relative" in caplog.text


def test_a_pilot_takes_the_first_shards(model, split, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    tokenize_shard(token_job(model, tmp_path), load_index(split).shards[0])
    assert _run(model, split, tmp_path, "--limit", "1") == 0
    assert "in 0, out 0, failed 0; skipped 9" in caplog.text
    assert json.loads((tmp_path / "manifest.json").read_text())["samples"] == 9


@pytest.mark.parametrize(
    ("flags", "taken"),
    [(["--shards", "1..2"], 12), (["--shards", "1..9", "--limit", "1"], 5), (["--shards", "0..0"], 9)],
)
def test_some_of_the_shards_can_be_taken(model, split, tmp_path, caplog, flags, taken):
    caplog.set_level(logging.INFO)
    assert _run(model, split, tmp_path / "tokens", "--dry-run", *flags) == 0
    assert f"shards to tokenize with {taken} samples" in caplog.text


@pytest.mark.parametrize("chosen", ["3..4", "2..1"])
def test_shards_that_are_not_there_are_named(model, split, tmp_path, caplog, chosen):
    assert _run(model, split, tmp_path / "tokens", "--shards", chosen) == 2
    assert f"--shards {chosen} takes none of the 3 shards, 0..2" in caplog.text


def test_optional_columns_and_layers_are_part_of_what_is_done(model, split, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    job = dataclasses.replace(token_job(model, tmp_path, layers=2), text_layers=1, llm_ids=True)
    tokenize_shard(job, load_index(split).shards[0])
    flags = ["--limit", "1", "--layers", "2", "--words", "1", "--ids", "llm"]
    assert _run(model, split, tmp_path, *flags) == 0
    assert "in 0, out 0, failed 0; skipped 9" in caplog.text
    assert json.loads((tmp_path / "manifest.json").read_text())["columns"] == ["text", "llm_ids"]
    for fewer in (flags[:4], flags[:6], flags[:2]):
        assert _run(model, split, tmp_path, *fewer) == 2
    assert "has layers 2, and this run has 4" in caplog.text


def test_a_dry_run_shows_the_plan_and_writes_nothing(model, split, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert _run(model, split, tmp_path / "tokens", "--dry-run") == 0
    assert "3 shards to tokenize with 21 samples; 0 are done" in caplog.text
    assert "worker hours" in caplog.text
    assert not (tmp_path / "tokens").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--workers", "0"],
        ["--max-error-share", "2"],
        ["--shards", "1"],
        ["--words", "5"],
        ["--layers", "2", "--words", "3"],
        ["--layers", "0"],
        ["--worker-cpus", "0"],
        ["--wrokers", "2"],
        ["--input", "nowhere"],
    ],
)
def test_unusable_arguments_end_with_2(model, split, tmp_path, flags):
    try:
        status = _run(model, split, tmp_path, *flags)
    except SystemExit as error:
        status = error.code
    assert status == 2
