"""kill -9 of the whole run at chosen moments and at a random one: a rerun ends as an undisturbed run does."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.pipelines.folders import digits, digits_command, tree_hashes

ROOT = Path(__file__).parents[3]
FLAGS = ["--samples-per-shard", "6"]


def planning(split, scratch):
    """The inputs are listed, the plan is not yet recorded."""
    return any(scratch.glob("spae-plan-*")) and not (split / "plan.json").exists()


def mid_tar(split, scratch):
    """A tar has bytes but not its name; by then some shards are finished."""
    tars = [name for name in names(split) if ".tar.tmp-" in name]
    return len(names(split)) > 20 and any((split / name).stat().st_size for name in tars)


def before_the_mark(split, scratch):
    """A tar has its name, and no sidecar vouches for it."""
    there = names(split)
    return len(there) > 20 and any(f"{name[:-4]}.json" not in there for name in there if name.endswith(".tar"))


def a_random_moment(split, scratch):
    """Some 10 ms pass between two looks, so that this comes true within some seconds."""
    time.sleep(0.01)
    return random.random() < 0.003


def names(split):
    return set(os.listdir(split)) if split.exists() else set()


def kill_when(moment, output, scratch):
    """Start a run of its own and kill it at this moment; whether that came in time, and the folder still shows it.

    A random moment may fall between the index, which is written last, and the end of the process.
    """
    scratch.mkdir(exist_ok=True)
    command, environment = [*digits_command(output), *FLAGS], {**os.environ, "TMPDIR": str(scratch)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            try:
                if moment(output / "val", scratch):
                    break
            except FileNotFoundError:  # renamed since it was listed
                continue
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed = process.returncode == -signal.SIGKILL and not (output / "val/index.json").exists()
    return killed and (moment is a_random_moment or moment(output / "val", scratch))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The hashes of all files of an undisturbed run."""
    output = tmp_path_factory.mktemp("whole")
    assert digits(output, *FLAGS) == 0
    return tree_hashes(output)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [planning, mid_tar, before_the_mark, a_random_moment])
def test_a_rerun_ends_as_an_undisturbed_run(moment, whole, tmp_path):
    for attempt in range(5):  # the moment may pass before the signal arrives
        output = tmp_path / f"shards-{attempt}"
        if kill_when(moment, output, tmp_path / "scratch"):
            break
    else:
        pytest.fail("the moment was never met")
    assert not (output / "val/index.json").exists()
    assert digits(output, *FLAGS) == 0
    assert tree_hashes(output) == whole
