"""Parts of a split by --shards, one after the other or at once: together they are what a single run writes."""

import subprocess
from pathlib import Path

import pytest

from pipelines.verify import main as verify
from tests.pipelines.folders import digits, digits_command, tree_hashes

ROOT = Path(__file__).parents[3]
FLAGS = ("--samples-per-shard", "90")  # three shards


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    output = tmp_path_factory.mktemp("whole")
    assert digits(output, *FLAGS) == 0
    return tree_hashes(output)


def test_parts_in_any_order_are_the_whole_and_the_index_comes_with_the_last(whole, tmp_path, caplog):
    caplog.set_level("INFO")
    assert digits(tmp_path, *FLAGS, "--shards", "1..9") == 0
    assert "in 180, out 180, failed 0; skipped 0" in caplog.text
    assert "1 shards of other parts are not written; with the last one comes the index" in caplog.text
    assert not (tmp_path / "val" / "index.json").exists()
    assert verify([str(tmp_path / "val")]) == 1, "it is not whole"
    caplog.clear()
    assert digits(tmp_path, *FLAGS, "--shards", "0..0") == 0
    assert "in 90, out 90, failed 0; skipped 0" in caplog.text
    assert "other parts" not in caplog.text
    assert tree_hashes(tmp_path) == whole


def test_what_others_have_under_way_stays(whole, tmp_path):
    split = tmp_path / "val"
    split.mkdir()
    under_way = [split / name for name in ("val-000002.tar", "val-000002.attempt", "val-000001.tar.tmp-1")]
    for path in under_way:
        path.write_bytes(b"others'")
    assert digits(tmp_path, *FLAGS, "--shards", "0..0") == 0
    assert [path.read_bytes() for path in under_way] == [b"others'"] * 3
    assert digits(tmp_path, *FLAGS) == 0
    assert tree_hashes(tmp_path) == whole


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--shards", "3"], "--shards 3 must be two numbers such as 0..9"),
        (["--shards", "3..9"], "--shards 3..9 takes none of the 3 shards, 0..2"),
        (["--shards", "0..1", "--replace"], "give it without --shards"),
    ],
)
def test_parts_that_are_none_are_refused(tmp_path, caplog, flags, said):
    assert digits(tmp_path, *FLAGS, *flags) == 2
    assert said in caplog.text
    assert tree_hashes(tmp_path) == {}


@pytest.mark.slow
def test_two_machines_at_once_write_the_whole(whole, tmp_path):
    commands = [[*digits_command(tmp_path), *FLAGS, "--shards", part] for part in ("0..0", "1..2")]
    processes = [subprocess.Popen(command, cwd=ROOT) for command in commands]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert tree_hashes(tmp_path) == whole
