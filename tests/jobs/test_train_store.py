"""A training whose shards, vocabulary and run folder lie in a bucket: a real cluster, an emulator of the store."""

import fsspec
import pytest
import ray

from jobs import export, train
from jobs.training.run_folder import best_checkpoint, latest_checkpoint, load_latest_state, read_history
from spae.model import SPAE
from tests import tiny_spae
from tests.pipelines.conftest import google_storage  # noqa: F401 # a fixture

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("google_storage")
def test_a_training_in_a_bucket_leaves_whole_checkpoints(folder, tmp_path, monkeypatch):
    """Shards come through the cache of this machine, the newest checkpoint and the best stand in the bucket."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.shutdown()
    store = fsspec.filesystem("gs")
    for part in ("train", "val", "vocabulary"):
        store.put(f"{folder}/{part}", f"bucket/data/{part}", recursive=True)
    data, run = "gs://bucket/data", "gs://bucket/runs/first"
    places = ("--shards", f"{data}/train", "--val-shards", f"{data}/val", "--vocabulary", f"{data}/vocabulary")
    flags = ("digits-32", *places, "--run", run, *tiny_spae.SMALL_DIGITS, "--log-every", "2", "--checkpoint-every", "2")
    flags = (*flags, "--steps", "4", "--cache", str(tmp_path / "cache"), "--max-failures", "0")
    try:
        assert train.main(flags) == 0
    finally:
        ray.shutdown()
    assert [row["step"] for row in read_history(run)] == [2, 4]
    assert latest_checkpoint(run) == "step-00000004"
    assert load_latest_state(run)["step"] == 4
    assert best_checkpoint(run).startswith("best-step-")
    assert len(list((tmp_path / "cache").glob("*.tar"))) == 1
    assert export.main(["--run", run, "--output", str(tmp_path / "model"), "--checkpoint", "best"]) == 0
    assert SPAE.from_pretrained(str(tmp_path / "model")).config.input_size == (32, 32)
