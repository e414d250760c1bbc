"""Locks of folders, held by real processes: who may work beside whom, and what a kill leaves."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

from jobs import remove_samples
from jobs.tokens import folder_lock
from jobs.tokens.folder_lock import STALE, BusyError, working_on

ROOT = Path(__file__).parents[3]
HOLD = """
import sys, time
from jobs.tokens.folder_lock import working_on
with working_on(sys.argv[1], "jobs.other", alone=sys.argv[2] == "alone"):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder, how):
    """A process that holds the folder until its input ends."""
    command = [sys.executable, "-c", HOLD, str(folder), how]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def locks(folder):
    return list(Path(folder).glob("*.lock"))


def test_tokenizing_runs_work_side_by_side_and_leave_nothing(tmp_path):
    with working_on(str(tmp_path), "one", alone=False), working_on(str(tmp_path), "two", alone=False):
        assert len(locks(tmp_path)) == 2
    assert locks(tmp_path) == []


@pytest.mark.parametrize(("there", "alone"), [("alone", True), ("alone", False), ("beside", True)])
def test_who_changes_tables_works_alone_until_it_ends_or_is_killed(tmp_path, there, alone):
    for kill in (False, True):
        other = holder(tmp_path, there)
        said = f"jobs.other works on {tmp_path} .process {other.pid} on .*wait until it has ended"
        with pytest.raises(BusyError, match=said), working_on(str(tmp_path), "jobs.this", alone=alone):
            pytest.fail("both work on the folder")
        if kill:
            other.kill()
        other.communicate()
        assert len(locks(tmp_path)) == kill
        with working_on(str(tmp_path), "jobs.this", alone=alone):
            assert len(locks(tmp_path)) == 1, "what the killed one left is gone"


def test_a_run_on_another_machine_counts_until_it_falls_silent(tmp_path):
    lock = tmp_path / "0123.lock"
    lock.write_text(json.dumps({"command": "jobs.other", "alone": True, "machine": "far", "process": os.getpid()}))
    with pytest.raises(BusyError, match=r"on far\).*within 5 minutes, or delete .*0123\.lock"):
        working_on(str(tmp_path), "jobs.this", alone=False).__enter__()
    silent = time.time() - STALE.total_seconds() - 5
    os.utime(lock, (silent, silent))
    with working_on(str(tmp_path), "jobs.this", alone=True):
        assert not lock.exists()


def test_a_run_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "_INTERVAL", 0.01)
    with working_on(str(tmp_path), "jobs.this", alone=True):
        (lock,) = locks(tmp_path)
        os.utime(lock, (0, 0))
        deadline = time.monotonic() + 20
        while lock.stat().st_mtime < time.time() - 60 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lock.stat().st_mtime > time.time() - 60


def test_locks_live_on_any_file_system():
    store, folder = fsspec.filesystem("memory"), "memory://locks"
    with working_on(folder, "one", alone=False):
        assert len(store.glob("/locks/*.lock")) == 1
        with pytest.raises(BusyError, match="one works on memory://locks"), working_on(folder, "two", alone=True):
            pytest.fail("both work on the folder")
    assert store.glob("/locks/*") == []


def test_a_removal_is_refused_while_another_run_works_on_the_folder(tmp_path, caplog):
    (tmp_path / "tokens").mkdir()
    (tmp_path / "keys.txt").write_text("a\n")
    with working_on(str(tmp_path / "tokens"), "jobs.tokenize_shards", alone=False):
        assert remove_samples.main([f"{tmp_path}/tokens", "--remove", f"{tmp_path}/keys.txt"]) == 1
    assert "jobs.tokenize_shards works on" in caplog.text
