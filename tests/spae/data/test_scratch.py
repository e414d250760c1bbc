import os
import signal
import subprocess
import sys
import tempfile

import pytest

from spae.data import scratch
from spae.data.scratch import ScratchFolder

MAKE_ONE_AND_WAIT = """
from spae.data.scratch import ScratchFolder
folder = ScratchFolder("plan")
open(folder.path + "/data", "w").close()
print(folder.path, flush=True)
input()
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A temporary folder of the test's own, which this process has not looked into."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch._sweep.cache_clear()
    return tmp_path


def other_process(temporary):
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", MAKE_ONE_AND_WAIT]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def test_what_a_killed_process_leaves_goes_with_the_next_start_and_what_a_living_one_has_stays(temporary):
    killed, left = other_process(temporary)
    living, kept = other_process(temporary)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert os.path.exists(left)
    (temporary / "spae-plan-of-others").mkdir()
    with ScratchFolder("spool") as path:
        assert os.listdir(path) == []
        assert not os.path.exists(os.path.dirname(left))
        assert os.listdir(kept) == ["data"]
    living.communicate("\n")
    assert os.listdir(temporary) == ["spae-plan-of-others"]


def test_a_fork_takes_nothing_from_its_parent(temporary):
    folder = ScratchFolder("spool")
    if (child := os.fork()) == 0:
        folder.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert os.path.isdir(folder.path)
    scratch._sweep.cache_clear()
    ScratchFolder("spool").close()
    assert os.path.isdir(folder.path)
    folder.close()
    assert os.listdir(temporary) == []
