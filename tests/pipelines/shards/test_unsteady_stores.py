"""Stores that fail now and then, or for good: tried again, never taken for a broken input, and never a silent loss."""

import errno
import os

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipelines.shards.transform import _ranges
from spae.data.publishing import read_bytes
from spae.data.records import load_index
from tests.pipelines.folders import digit_folder, digits, folder, tree_hashes

FLAGS = ["--samples-per-shard", "10"]


@pytest.fixture
def source(tmp_path):
    return digit_folder(tmp_path / "images", 30)


@pytest.fixture
def expected(source, tmp_path):
    """The hashes of the tars that a steady disk gives."""
    assert folder(source, tmp_path / "steady", *FLAGS) == 0
    return [shard.sha256 for shard in load_index(str(tmp_path / "steady/train")).shards]


@pytest.mark.slow
def test_a_store_that_answers_503_now_and_then_loses_nothing(source, expected, unsteady, tmp_path):
    bucket, _ = fsspec.url_to_fs("gs://bucket")
    bucket.put(str(source), "bucket/images", recursive=True)
    unsteady.period = 17
    assert folder("gs://bucket/images", "gs://bucket/shards", *FLAGS) == 0
    assert len(unsteady.refused) > 3
    unsteady.period = 0
    index = load_index("gs://bucket/shards/train")
    assert [shard.errors for shard in index.shards] == [0, 0, 0]
    assert [shard.sha256 for shard in index.shards] == expected


class FailingFileSystem(MemoryFileSystem):
    """A file system in memory, which reads images with an error of the device as often as it is told to."""

    protocol = "failing"
    failures = 0

    def cat_file(self, path, start=None, end=None, **options):
        if FailingFileSystem.failures and path.endswith((".png", ".JPEG")):
            FailingFileSystem.failures -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return super().cat_file(path, start=start, end=end, **options)


@pytest.fixture
def failing(source, tmp_path):
    fsspec.register_implementation("failing", FailingFileSystem, clobber=True)
    root = f"failing://{tmp_path.name}"
    for path in source.glob("*/*"):
        fsspec.filesystem("failing").pipe(f"{root}/{path.relative_to(source)}", path.read_bytes())
    yield root
    FailingFileSystem.failures = 0


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """The pauses between tries would be 7 seconds."""
    monkeypatch.setattr("pipelines.shards.transform.PAUSES", (0.0, 0.0, 0.0))


def test_a_device_error_is_tried_again(failing, expected, tmp_path, caplog):
    FailingFileSystem.failures = 3
    assert folder(failing, tmp_path / "shards", *FLAGS) == 0
    assert FailingFileSystem.failures == 0
    assert [shard.sha256 for shard in load_index(str(tmp_path / "shards/train")).shards] == expected
    assert "cannot read the input" in caplog.text


def test_a_device_error_that_stays_fails_the_run_and_makes_no_dead_letter(failing, expected, tmp_path, caplog):
    FailingFileSystem.failures = 1000
    assert folder(failing, tmp_path / "shards", *FLAGS) == 1
    assert "Input/output error" in caplog.text
    assert "give the same command again" in caplog.text
    split = tmp_path / "shards/train"
    assert {name for name in tree_hashes(split) if name.endswith((".tar", ".jsonl", "index.json"))} == set()
    FailingFileSystem.failures = 0
    assert folder(failing, tmp_path / "shards", *FLAGS) == 0
    assert [shard.sha256 for shard in load_index(str(split)).shards] == expected


@pytest.mark.parametrize("output", ["{tmp}/file/below", "/proc/shards"])
def test_an_unwritable_target_is_named_before_any_work(tmp_path, output, caplog, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr("pipelines.shards.command.making_plan", lambda *_: pytest.fail("no listing before that"))
    assert digits(output.format(tmp=tmp_path), *FLAGS) == 2
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "cannot write to" in record.message
    assert "give another --output" in record.message


def test_a_bucket_that_does_not_exist_is_named_before_any_work(google_storage, caplog):
    assert digits("gs://nobody/shards", *FLAGS) == 2
    assert "cannot write to gs://nobody/shards/val" in caplog.text


def test_a_run_leaves_no_probe(google_storage):
    assert digits("gs://bucket/shards", *FLAGS) == 0
    bucket, _ = fsspec.url_to_fs("gs://bucket")
    assert not [name for name in bucket.find("bucket") if "writable" in name]
    assert read_bytes("gs://bucket/shards/val/plan.json")


def test_what_is_sent_to_a_runner_is_small():
    assert _ranges([0, 1, 2, 5, 7, 8]) == [(0, 3), (5, 6), (7, 9)]
    assert _ranges(range(1_000_000)) == [(0, 1_000_000)]
