import dataclasses
import json

import fsspec
import pytest

from jobs.training.run_folder import RunRecord, best_checkpoint, claim_run, keep_best, storage
from tests import tiny_spae


@pytest.fixture
def anonymous(monkeypatch):
    """Google's store, without a search for credentials."""
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})


@pytest.fixture
def record():
    return RunRecord(tiny_spae.TRAINING, "words", None, "data", "vocabulary")


def test_a_run_given_again_with_replace_keeps_its_checkpoints(tmp_path, record):
    """As a retried job does, which has the flags of the first attempt."""
    run = tmp_path / "run"
    claim_run(str(run), record, replace=True)
    (run / "step-00000005").mkdir()
    claim_run(str(run), record, replace=True)
    assert (run / "step-00000005").exists()
    claim_run(str(run), dataclasses.replace(record, data_fingerprint="other"), replace=True)
    assert not (run / "step-00000005").exists()
    assert RunRecord.load(str(run)).data_fingerprint == "other"


def test_a_run_from_when_the_warm_up_was_the_time_scale_goes_on(tmp_path, record):
    """Its learning rates stay those that it began with."""
    claim_run(str(tmp_path), record, replace=False)
    values = json.loads((tmp_path / "config.json").read_text())
    del values["config"]["optimizer"]["timescale_steps"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    loaded = RunRecord.load(str(tmp_path)).config.optimizer
    assert loaded.timescale_steps == loaded.warmup_steps == 3


def test_the_best_checkpoint_is_kept_until_a_better_one_is_whole(tmp_path, record):
    run, state = tmp_path / "run", tmp_path / "state"
    claim_run(str(run), record, replace=False)
    assert best_checkpoint(str(run)) is None
    state.mkdir()
    (state / "state.pt").write_bytes(b"state")
    (state / "checkpoint.json").write_text(json.dumps({"sha256": "", "step": 1, "run": "{}", "topology": {}}))
    keep_best(str(run), "step-00000001", str(state))
    keep_best(str(run), "step-00000003", str(state))
    assert [path.name for path in run.glob("best-*")] == ["best-step-00000003"]
    (run / "best-step-00000005").mkdir()
    (run / "best-step-00000005/state.pt").write_bytes(b"half of")
    assert best_checkpoint(str(run)) == "best-step-00000003"


def test_a_folder_without_a_run_loses_nothing(tmp_path, record):
    (tmp_path / "mine.txt").write_text("mine")
    claim_run(str(tmp_path), record, replace=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("content", [b"no json", b"{}", b'{"format_version": 99}'])
def test_a_record_that_cannot_be_read_is_refused_and_replaced_on_request(tmp_path, record, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match="choose another folder or --replace it"):
        claim_run(str(tmp_path), record, replace=False)
    claim_run(str(tmp_path), record, replace=True)
    assert not RunRecord.load(str(tmp_path)).differences(record)


@pytest.mark.parametrize("run", ["memory://bucket", "memory://bucket/", "gs://bucket", "gs://bucket/", "/", "/run"])
def test_a_whole_bucket_is_no_run_folder(run, anonymous):
    with pytest.raises(ValueError, match=r"leaves no folder for the run; give one below it, such as \S*/runs/first"):
        storage(run)


PARTS = {"gs://bucket/a/b": ("bucket/a", "b"), "/data/runs/b/": ("/data/runs", "b")}


@pytest.mark.parametrize("run", PARTS)
def test_the_parts_of_a_run_folder(run, anonymous):
    assert storage(run)[1:] == PARTS[run]
